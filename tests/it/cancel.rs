//! Cancelling before, during and after a run.

use longshore_agent::host::fake::FakeHost;
use longshore_proto::v1::JobState;
use longshore_tests::local::{Local, scripted};
use std::sync::Arc;

#[tokio::test]
async fn a_queued_job_is_cancelled_at_once() {
    let local = Local::start(&[]).await;
    let job = local.submit(scripted(&[])).await;
    local.cancel(&job.id).await;
    assert_eq!(local.finished(&job.id).await.state(), JobState::Cancelled);
    local.stop().await;
}

#[tokio::test]
async fn a_running_job_is_stopped_and_says_who_asked() {
    let local = Local::start(&[Arc::new(FakeHost::new())]).await;
    let job = local.submit(scripted(&[("FAKE_RUN", "forever")])).await;
    local.running(&job.id).await;
    local.cancel(&job.id).await;
    let job = local.finished(&job.id).await;
    assert_eq!(job.state(), JobState::Cancelled);
    assert_eq!(job.outcome.expect("it ended").exit_code, 130);
    local.stop().await;
}

#[tokio::test]
async fn what_has_succeeded_stays_succeeded() {
    let local = Local::start(&[Arc::new(FakeHost::new())]).await;
    let job = local.submit(scripted(&[])).await;
    local.finished(&job.id).await;
    local.cancel(&job.id).await;
    assert_eq!(local.get(&job.id).await.job.expect("a job").state(), JobState::Succeeded);
    local.stop().await;
}
