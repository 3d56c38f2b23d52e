use super::*;
use crate::http::bytes::routes;

/// A store served on a port of its own.
async fn served() -> (Directory, tempfile::TempDir) {
    drop(rustls::crypto::ring::default_provider().install_default());
    let folder = tempfile::tempdir().expect("a folder");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base = format!("http://{}", listener.local_addr().expect("bound"));
    let store = Directory::open(folder.path(), &base).expect("opened");
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
    let again = Directory::open(folder.path(), "http://x").expect("opened again");
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
        let key = crate::blobs::content_key(&Sha256::digest(&content).into());
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
