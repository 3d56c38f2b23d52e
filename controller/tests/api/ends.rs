//! What is open under a token ends with it.

use crate::harness::{Cluster, PATIENCE, config, showing, spec};
use longshore_controller::{ControllerConfig, identity};
use longshore_proto::v1::{self, access_client::AccessClient, jobs_client::JobsClient};
use std::time::Duration;
use tokio::time::timeout;
use tonic::Code;

async fn quick() -> Cluster {
    let folder = tempfile::tempdir().expect("a folder");
    let base = config(folder.path());
    let limits = identity::Config { recheck_every: Duration::from_millis(100), ..base.limits.clone() };
    Cluster::start_as(ControllerConfig { limits, ..base }, folder).await
}

async fn token(cluster: &Cluster, name: &str, lifetime: Option<Duration>) -> String {
    let request = v1::CreateTokenRequest {
        name: name.to_owned(),
        role: v1::Role::Viewer as i32,
        lifetime: lifetime.map(|length| prost_types::Duration {
            seconds: length.as_secs().cast_signed(),
            nanos: length.subsec_nanos().cast_signed(),
        }),
        ..v1::CreateTokenRequest::default()
    };
    let made = AccessClient::new(cluster.channel.clone()).create_token(request).await.expect("made");
    made.into_inner().text
}

/// A watch, a log that is followed and a wait, of a job that nobody runs.
async fn open_all(cluster: &Cluster, text: &str) -> [Code; 3] {
    let job = cluster.submit(spec("x")).await.id;
    let jobs = JobsClient::new(showing(cluster, text));
    let mut watch = jobs.clone().watch(v1::WatchJobsRequest::default()).await.expect("opened").into_inner();
    let logs = v1::StreamLogsRequest { job: job.clone(), follow: true, ..v1::StreamLogsRequest::default() };
    let mut logs = jobs.clone().stream_logs(logs).await.expect("opened").into_inner();
    let long = Some(prost_types::Duration { seconds: 600, nanos: 0 });
    let wait = v1::WaitJobRequest { job, timeout: long, after_revision: 0 };
    let watched = async {
        while watch.message().await?.is_some() {}
        Ok::<_, tonic::Status>(())
    };
    let logged = async {
        while logs.message().await?.is_some() {}
        Ok::<_, tonic::Status>(())
    };
    let mut waiting = jobs.clone();
    let waited = async { waiting.wait(wait).await.map(drop) };
    let all = async { tokio::join!(watched, logged, waited) };
    let (watched, logged, waited) = timeout(PATIENCE, all).await.expect("they end");
    [watched, logged, waited].map(|ended| ended.expect_err("the token is over").code())
}

#[tokio::test]
async fn what_is_open_ends_when_its_token_is_revoked() {
    let cluster = quick().await;
    let text = token(&cluster, "anna", None).await;
    let revoke = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let request = v1::RevokeTokenRequest { token: "anna".to_owned() };
        AccessClient::new(cluster.channel.clone()).revoke_token(request).await.expect("revoked");
    };
    let (codes, ()) = tokio::join!(open_all(&cluster, &text), revoke);
    assert_eq!(codes, [Code::Unauthenticated; 3]);
}

#[tokio::test]
async fn what_is_open_ends_when_its_token_expires() {
    let cluster = quick().await;
    let text = token(&cluster, "brief", Some(Duration::from_secs(2))).await;
    assert_eq!(open_all(&cluster, &text).await, [Code::Unauthenticated; 3]);
}
