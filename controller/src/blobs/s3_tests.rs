use super::*;

fn store(path_style: bool) -> S3 {
    drop(rustls::crypto::ring::default_provider().install_default());
    S3::new(Config {
        endpoint: "https://s3.example:9000".parse().expect("an address"),
        bucket: "bytes".to_owned(),
        access_key: "AK".to_owned(),
        secret_key: "top-secret".to_owned(),
        region: "eu-1".to_owned(),
        path_style,
        prefix: "a/".to_owned(),
    })
    .expect("valid")
}

#[tokio::test]
async fn addresses_come_in_both_styles_without_the_secret() {
    let key = "cas/00";
    let path = store(true).get_url(key, CALL).await.expect("signed");
    assert!(path.starts_with("https://s3.example:9000/bytes/a/cas/00?"), "{path}");
    let host = store(false).get_url(key, CALL).await.expect("signed");
    assert!(host.starts_with("https://bytes.s3.example:9000/a/cas/00?"), "{host}");
    assert!(path.contains("X-Amz-Signature=") && !path.contains("top-secret"));
    assert!(!format!("{:?}", store(true)).contains("top-secret"));
}

#[tokio::test]
async fn a_small_object_is_one_put_without_a_call() {
    let target = store(true).open_upload("k", 5, CALL).await.expect("no call is made");
    assert_eq!((target.upload_id, target.part_size, target.urls.len()), (None, 5, 1));
}

#[test]
fn a_missing_bucket_is_named_with_what_to_do() {
    let error = store(true).refused(StatusCode::NOT_FOUND, "<Error><Code>NoSuchBucket</Code></Error>", "x");
    assert_eq!(
        error.to_string(),
        "object store refused: bucket bytes does not exist at https://s3.example:9000/: create it"
    );
    assert!(!error.is_transient());
}

#[test]
fn a_slow_down_is_transient_and_keeps_the_servers_words() {
    let body = "<Error><Code>SlowDown</Code><Message>Reduce your request rate</Message></Error>";
    let error = store(true).refused(StatusCode::SERVICE_UNAVAILABLE, body, "storing an object");
    assert!(error.is_transient());
    assert!(error.to_string().contains("SlowDown Reduce your request rate"), "{error}");
}
