//! The S3 server must verify, or every test of signed addresses would prove nothing.

use longshore_tests::env::{S3, s3, until};
use reqwest::{Client, StatusCode};
use rusty_s3::{Bucket, Credentials, S3Action as _, UrlStyle, actions::CreateMultipartUpload};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

fn client() -> Client {
    // Another story may have been first.
    rustls::crypto::ring::default_provider().install_default().ok();
    // `bucket.localhost` has no address where the resolver is a plain one.
    let name = format!("{}.localhost", s3().bucket);
    Client::builder().resolve(&name, ([127, 0, 0, 1], 0).into()).build().expect("a client")
}

fn bucket(style: UrlStyle, s3: &S3) -> Bucket {
    let endpoint = match style {
        UrlStyle::Path => s3.endpoint.clone(),
        UrlStyle::VirtualHost => s3.endpoint.replace("127.0.0.1", "localhost"),
    };
    let endpoint = endpoint.parse().expect("the endpoint is a URL");
    Bucket::new(endpoint, style, s3.bucket.clone(), s3.region.clone()).expect("a valid bucket")
}

fn key(s3: &S3) -> Credentials {
    Credentials::new(&s3.access_key, &s3.secret_key)
}

async fn put(url: impl reqwest::IntoUrl) -> StatusCode {
    client().put(url).body("bytes").send().await.expect("the object store answers").status()
}

#[tokio::test]
async fn a_garbage_signature_is_refused() {
    let mut url = bucket(UrlStyle::Path, s3()).put_object(Some(&key(s3())), "garbage").sign(MINUTE);
    let query = url.query().expect("a signed address has a query").to_owned();
    let (before, _) = query.split_once("X-Amz-Signature=").expect("it is signed");
    url.set_query(Some(&format!("{before}X-Amz-Signature={}", "0".repeat(64))));
    assert_eq!(put(url).await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn an_unknown_key_is_refused() {
    let stranger = Credentials::new("SOMEBODYELSE", &s3().secret_key);
    let url = bucket(UrlStyle::Path, s3()).put_object(Some(&stranger), "stranger").sign(MINUTE);
    assert_eq!(put(url).await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_wrong_secret_is_refused() {
    let wrong = Credentials::new(&s3().access_key, "not-the-secret");
    let url = bucket(UrlStyle::Path, s3()).put_object(Some(&wrong), "wrong").sign(MINUTE);
    assert_eq!(put(url).await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn an_expired_address_is_refused() {
    let url = bucket(UrlStyle::Path, s3()).put_object(Some(&key(s3())), "late").sign(Duration::from_secs(1));
    until("an address of one second is refused", || async {
        match put(url.clone()).await {
            // Garage calls it a bad request.
            StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => Ok(()),
            still => Err(still),
        }
    })
    .await;
}

#[tokio::test]
async fn an_unsigned_request_is_refused() {
    let s3 = s3();
    assert_eq!(put(format!("{}/{}/unsigned", s3.endpoint, s3.bucket)).await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_not_made() {
    let elsewhere = S3 { bucket: "no-such-bucket".to_owned(), ..s3().clone() };
    let url = bucket(UrlStyle::Path, &elsewhere).put_object(Some(&key(s3())), "lost").sign(MINUTE);
    assert!(put(url).await.is_client_error());
}

#[tokio::test]
async fn an_object_goes_round_in_path_style() {
    round(UrlStyle::Path, "round-path").await;
}

#[tokio::test]
async fn an_object_goes_round_in_virtual_host_style() {
    round(UrlStyle::VirtualHost, "round-host").await;
}

async fn round(style: UrlStyle, name: &str) {
    let (bucket, key) = (bucket(style, s3()), key(s3()));
    assert_eq!(put(bucket.put_object(Some(&key), name).sign(MINUTE)).await, StatusCode::OK);
    let head = client().head(bucket.head_object(Some(&key), name).sign(MINUTE)).send().await.expect("HEAD");
    assert_eq!(head.headers()["content-length"], "5");
    let got = client().get(bucket.get_object(Some(&key), name).sign(MINUTE)).send().await.expect("GET");
    assert_eq!(got.text().await.expect("a body"), "bytes");
    let gone =
        client().delete(bucket.delete_object(Some(&key), name).sign(MINUTE)).send().await.expect("DELETE");
    assert!(gone.status().is_success(), "{gone:?}");
    let missing = client().get(bucket.get_object(Some(&key), name).sign(MINUTE)).send().await.expect("GET");
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn parts_signed_one_by_one_become_one_object() {
    let (bucket, key) = (bucket(UrlStyle::Path, s3()), key(s3()));
    let upload = begin(&bucket, &key, "parts").await;
    let mut etags = Vec::new();
    for (number, byte) in [(1, b'a'), (2, b'b')] {
        let url = bucket.upload_part(Some(&key), "parts", number, &upload).sign(MINUTE);
        let part = client().put(url).body(vec![byte; 5 << 20]).send().await.expect("PUT a part");
        assert_eq!(part.status(), StatusCode::OK);
        etags.push(part.headers()["etag"].to_str().expect("text").to_owned());
    }
    let complete =
        bucket.complete_multipart_upload(Some(&key), "parts", &upload, etags.iter().map(String::as_str));
    let done = client().post(complete.sign(MINUTE)).body(complete.body()).send().await.expect("complete");
    assert_eq!(done.status(), StatusCode::OK);
    let got = client().get(bucket.get_object(Some(&key), "parts").sign(MINUTE)).send().await.expect("GET");
    let bytes = got.bytes().await.expect("a body");
    assert_eq!((bytes.len(), bytes[0], bytes[bytes.len() - 1]), (10 << 20, b'a', b'b'));
}

#[tokio::test]
async fn an_aborted_upload_takes_no_more_parts() {
    let (bucket, key) = (bucket(UrlStyle::Path, s3()), key(s3()));
    let upload = begin(&bucket, &key, "aborted").await;
    let abort = bucket.abort_multipart_upload(Some(&key), "aborted", &upload).sign(MINUTE);
    assert!(client().delete(abort).send().await.expect("abort").status().is_success());
    let part = bucket.upload_part(Some(&key), "aborted", 1, &upload).sign(MINUTE);
    assert!(put(part).await.is_client_error());
}

async fn begin(bucket: &Bucket, key: &Credentials, name: &str) -> String {
    let create = bucket.create_multipart_upload(Some(key), name).sign(MINUTE);
    let answer = client().post(create).send().await.expect("create").text().await.expect("a body");
    CreateMultipartUpload::parse_response(&answer).expect("an upload id").upload_id().to_owned()
}
