use super::*;
use crate::http::bytes::routes;

/// A store served on a port of its own.
async fn served() -> (Directory, tempfile::TempDir) {
    drop(rustls::crypto::ring::default_provider().install_default());
    let folder = tempfile::tempdir().expect("a folder");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base = format!("http://{}", listener.local_addr().expect("bound"));
    let store = Directory::open(folder.path(), &base, 0).expect("opened");
    let router = routes(store.clone());
    longshore_common::tasks::spawn("test server", async move { axum::serve(listener, router).await });
    (store, folder)
}

#[tokio::test]
async fn keeps_the_contract() {
    let (store, _folder) = served().await;
    super::super::contract::run(&store, "attempt/t").await;
}

#[tokio::test]
async fn a_body_of_another_size_is_refused_and_leaves_nothing() {
    let (store, folder) = served().await;
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let url = store.open_upload("k", 5, Duration::from_secs(60)).await.expect("opened").urls.remove(0);
    for body in ["four", "sixsix"] {
        let answer = client.put(&url).body(body).send().await.expect("sent");
        assert_eq!(answer.status(), reqwest::StatusCode::BAD_REQUEST);
        assert!(answer.text().await.expect("read").contains("signed for 5 bytes"));
    }
    assert_eq!(store.size("k").await.expect("asked"), None);
    assert_eq!(fs::read_dir(folder.path().join("tmp")).expect("listed").count(), 0);
}

#[tokio::test]
async fn addresses_outlive_a_restart_and_the_key_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let (store, folder) = served().await;
    let url = store.get_url("k", Duration::from_secs(60)).await.expect("signed");
    let again = Directory::open(folder.path(), "http://x", 0).expect("opened again");
    let (_, query) = url.split_once('?').expect("a query");
    assert!(again.verify(&http::Method::GET, "k", query).is_ok());
    let mode = fs::metadata(folder.path().join("signing.key")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_key_that_could_break_an_address_is_refused() {
    let (store, _folder) = served().await;
    for key in ["", "a b", "a?b", "a\nb", "a%2f"] {
        assert!(store.put(key, Bytes::new()).await.is_err(), "{key:?}");
    }
}

#[tokio::test]
async fn content_that_is_not_what_its_key_says_is_refused() {
    let (store, _folder) = served().await;
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let valid = Duration::from_secs(60);
    for size in [5, (1 << 20) + 1, part_size(0) + 1] {
        let content = Bytes::from(vec![b'x'; usize::try_from(size).expect("small")]);
        let key = crate::blobs::content_key("default", &Sha256::digest(&content).into());
        let other = Bytes::from(vec![b'y'; content.len()]);
        for (body, good) in [(other, false), (content, true)] {
            let target = store.open_upload(&key, size, valid).await.expect("opened");
            let (mut etags, mut stored) = (Vec::new(), true);
            for (url, part) in target.urls.iter().zip(body.chunks(target.part_size as usize)) {
                let part = Bytes::copy_from_slice(part);
                let answer = client.put(url).body(part).send().await.expect("sent");
                stored &= answer.status().is_success();
                if let Some(etag) = answer.headers().get("etag") {
                    etags.push(etag.to_str().expect("text").to_owned());
                }
            }
            if let Some(id) = &target.upload_id {
                stored = store.complete_upload(&key, id, &etags).await.is_ok();
            }
            assert_eq!(stored, good, "{size}");
            assert_eq!(store.size(&key).await.expect("asked"), good.then_some(size));
        }
    }
}

#[tokio::test]
async fn an_upload_nobody_goes_on_with_does_not_stay_for_ever() {
    let (store, folder) = served().await;
    let (size, valid) = (part_size(0) + 1, Duration::from_secs(60));
    let old = store.open_upload("old", size, valid).await.expect("opened").upload_id.expect("parts");
    let uploads = folder.path().join("uploads");
    let two_days_ago = SystemTime::now() - Duration::from_secs(48 * 3600);
    let times = fs::FileTimes::new().set_modified(two_days_ago);
    fs::File::open(uploads.join(&old)).expect("there").set_times(times).expect("aged");
    let new = store.open_upload("new", size, valid).await.expect("opened").upload_id.expect("parts");
    let left: Vec<_> = fs::read_dir(uploads).expect("listed").map(|e| e.expect("read").file_name()).collect();
    assert_eq!(left, [std::ffi::OsString::from(new)]);
}

#[tokio::test]
async fn a_body_that_would_eat_the_databases_room_is_refused_with_507() {
    let (_, folder) = served().await;
    let store = Directory::open(folder.path(), "http://x", u64::MAX).expect("opened");
    for size in [1, part_size(0) + 1] {
        let target = store.open_upload("k", size, Duration::from_secs(60)).await.expect("opened");
        let (_, path) = target.urls[0].split_once("//x").expect("an address");
        let request = http::Request::put(path).body(axum::body::Body::from("x")).expect("a request");
        let answer = tower::ServiceExt::oneshot(routes(store.clone()), request).await.expect("answered");
        assert_eq!(answer.status(), http::StatusCode::INSUFFICIENT_STORAGE);
    }
}
