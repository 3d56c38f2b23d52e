//! What every implementation of `Blobs` must do, as one suite. Addresses are used as an agent would use them:
//! by HTTP, knowing nothing of the store. Never called by the program itself.

use super::Blobs;
use bytes::Bytes;
use futures::TryStreamExt as _;
use longshore_common::artifact::part_size;
use reqwest::{Client, StatusCode};
use std::time::Duration;

const VALID: Duration = Duration::from_secs(60);

/// Runs the whole suite; panics at the first difference. Keys are made below `prefix`.
pub async fn run(blobs: &dyn Blobs, prefix: &str) {
    let client = Client::builder().no_proxy().build().expect("a plain client");
    blobs.health().await.expect("the store is well");
    single(blobs, &client, &format!("{prefix}/single")).await;
    empty(blobs, &client, &format!("{prefix}/empty")).await;
    multipart(blobs, &client, &format!("{prefix}/multi")).await;
    abort(blobs, &client, &format!("{prefix}/aborted")).await;
    denied(blobs, &client, &format!("{prefix}/denied")).await;
    expired(blobs, &client, &format!("{prefix}/expired")).await;
    content(blobs, &format!("{prefix}/content")).await;
    delete(blobs, prefix).await;
}

async fn content(blobs: &dyn Blobs, key: &str) {
    assert!(blobs.content(key).await.expect("asked").is_none(), "it was never stored");
    let bytes = Bytes::from(vec![7; 700_000]);
    blobs.put(key, bytes.clone()).await.expect("stored");
    let (size, pieces) = blobs.content(key).await.expect("asked").expect("it is there");
    let read: Vec<Bytes> = pieces.try_collect().await.expect("read");
    assert!(size == 700_000 && read.concat() == bytes, "it reads back");
}

async fn single(blobs: &dyn Blobs, client: &Client, key: &str) {
    assert_eq!(blobs.size(key).await.expect("asked"), None);
    let target = blobs.open_upload(key, 5, VALID).await.expect("opened");
    assert!(target.upload_id.is_none() && target.urls.len() == 1, "{target:?}");
    for body in ["first", "again"] {
        let answer = client.put(&target.urls[0]).body(body).send().await.expect("sent");
        assert!(answer.status().is_success(), "{}", answer.status());
    }
    assert_eq!(blobs.size(key).await.expect("asked"), Some(5));
    let url = blobs.get_url(key, VALID).await.expect("signed");
    assert_eq!(fetch(client, &url).await, "again");
    let part = client.get(&url).header("range", "bytes=1-2").send().await.expect("sent");
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.bytes().await.expect("read"), "ga");
    let rest = client.get(&url).header("range", "bytes=3-").send().await.expect("sent");
    assert_eq!(rest.bytes().await.expect("read"), "in");
}

async fn empty(blobs: &dyn Blobs, client: &Client, key: &str) {
    let target = blobs.open_upload(key, 0, VALID).await.expect("opened");
    let answer = client.put(&target.urls[0]).body(Bytes::new()).send().await.expect("sent");
    assert!(answer.status().is_success(), "{}", answer.status());
    assert_eq!(blobs.size(key).await.expect("asked"), Some(0));
    let url = blobs.get_url(key, VALID).await.expect("signed");
    assert_eq!(fetch(client, &url).await, "");
}

/// Parts out of order, one of them twice.
async fn multipart(blobs: &dyn Blobs, client: &Client, key: &str) {
    let size = part_size(0) * 2 + 3;
    let target = blobs.open_upload(key, size, VALID).await.expect("opened");
    let id = target.upload_id.as_deref().expect("more than one part");
    assert_eq!(target.urls.len(), 3);
    let bodies: Vec<Bytes> =
        pattern(size).chunks(target.part_size as usize).map(Bytes::copy_from_slice).collect();
    let mut etags = vec![String::new(); 3];
    for part in [2, 0, 1, 0] {
        let answer = client.put(&target.urls[part]).body(bodies[part].clone()).send().await.expect("sent");
        assert!(answer.status().is_success(), "{}", answer.status());
        answer.headers()["etag"].to_str().expect("text").clone_into(&mut etags[part]);
    }
    assert_eq!(blobs.size(key).await.expect("asked"), None, "not there before it is complete");
    blobs.complete_upload(key, id, &etags).await.expect("completed");
    blobs.complete_upload(key, id, &etags).await.expect("a repeat is fine");
    assert_eq!(blobs.size(key).await.expect("asked"), Some(size));
    let url = blobs.get_url(key, VALID).await.expect("signed");
    let whole = client.get(&url).send().await.expect("sent").bytes().await.expect("read");
    assert!(whole == pattern(size), "the parts are in their places");
}

async fn abort(blobs: &dyn Blobs, client: &Client, key: &str) {
    let target = blobs.open_upload(key, part_size(0) + 1, VALID).await.expect("opened");
    let id = target.upload_id.as_deref().expect("more than one part");
    let body = Bytes::from(vec![7; target.part_size as usize]);
    client.put(&target.urls[0]).body(body).send().await.expect("sent");
    blobs.abort_upload(key, id).await.expect("aborted");
    let late = client.put(&target.urls[1]).body("x").send().await.expect("sent");
    assert!(!late.status().is_success(), "a part after the abort");
    assert!(blobs.complete_upload(key, id, &["a".into(), "b".into()]).await.is_err());
    assert_eq!(blobs.size(key).await.expect("asked"), None);
}

/// Garbage signatures, other keys, other methods.
async fn denied(blobs: &dyn Blobs, client: &Client, key: &str) {
    blobs.put(key, Bytes::from_static(b"mine")).await.expect("stored");
    let get = blobs.get_url(key, VALID).await.expect("signed");
    let put = blobs.open_upload(key, 4, VALID).await.expect("opened").urls.remove(0);
    let garbage = get[..get.len() - 8].to_owned() + "00000000";
    let other_key = get.replacen("/denied", "/single", 1);
    for url in [&garbage, &other_key, &put] {
        let answer = client.get(url).send().await.expect("sent");
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "GET {url}");
    }
    for url in [&get, &put.replacen("/denied", "/other", 1)] {
        let answer = client.put(url).body("evil").send().await.expect("sent");
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "PUT {url}");
    }
    assert_eq!(fetch(client, &get).await, "mine");
}

async fn expired(blobs: &dyn Blobs, client: &Client, key: &str) {
    blobs.put(key, Bytes::from_static(b"old")).await.expect("stored");
    let url = blobs.get_url(key, Duration::from_secs(1)).await.expect("signed");
    // Time is the subject here: nothing but its passing expires an address.
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let answer = client.get(&url).send().await.expect("sent");
    // Garage calls it a bad request.
    assert!(matches!(answer.status(), StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST), "{answer:?}");
}

async fn delete(blobs: &dyn Blobs, prefix: &str) {
    let keys: Vec<_> =
        ["single", "empty", "multi", "denied", "expired"].map(|name| format!("{prefix}/{name}")).into();
    blobs.delete(&keys).await.expect("deleted");
    blobs.delete(&keys).await.expect("those that are gone are fine");
    for key in &keys {
        assert_eq!(blobs.size(key).await.expect("asked"), None);
    }
}

async fn fetch(client: &Client, url: &str) -> Bytes {
    let answer = client.get(url).send().await.expect("sent");
    assert_eq!(answer.status(), StatusCode::OK);
    answer.bytes().await.expect("read")
}

/// Bytes that tell their place.
fn pattern(size: u64) -> Bytes {
    (0..size).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}
