//! The S3 store keeps the contract of `Blobs` against a server that verifies.

use longshore_controller::blobs::{Blobs as _, Error, S3, contract, s3::Config};
use longshore_tests::env::s3;

fn store(bucket: &str) -> S3 {
    drop(rustls::crypto::ring::default_provider().install_default());
    let s3 = s3();
    S3::new(Config {
        endpoint: s3.endpoint.parse().expect("the endpoint is a URL"),
        bucket: bucket.to_owned(),
        access_key: s3.access_key.clone(),
        secret_key: s3.secret_key.clone(),
        region: s3.region.clone(),
        path_style: true,
        prefix: "blobs-test/".to_owned(),
    })
    .expect("valid settings")
}

#[tokio::test]
async fn s3_keeps_the_contract_of_the_store() {
    contract::run(&store(&s3().bucket), "attempt/contract").await;
}

#[tokio::test]
async fn a_missing_bucket_is_told_by_name() {
    let error = store("longshore-no-such-bucket").health().await.expect_err("there is none");
    assert!(matches!(error, Error::Refused(_)), "{error}");
    assert!(error.to_string().contains("bucket longshore-no-such-bucket does not exist at"), "{error}");
}
