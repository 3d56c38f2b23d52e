//! A job's way from submit to finish, with its log, its files and its end.

use longshore_agent::host::fake::FakeHost;
use longshore_proto::v1::{JobState, ListArtifactsRequest, Stream};
use longshore_tests::local::{Local, scripted};
use std::sync::Arc;

#[tokio::test]
async fn a_job_succeeds_and_its_log_and_files_come_back() {
    let local = Local::start(&[Arc::new(FakeHost::new())]).await;
    let script =
        [("FAKE_STDOUT", "one\ntwo"), ("FAKE_STDERR", "oh\n"), ("FAKE_FILES", "a.txt:11,b/c.bin:3000000")];
    let job = local.submit(scripted(&script)).await;
    let records = local.log(&job.id).await;
    let job = local.finished(&job.id).await;
    assert_eq!(job.state(), JobState::Succeeded, "{job:#?}");
    let of = |stream: Stream| -> Vec<u8> {
        records.iter().filter(|r| r.stream() == stream).flat_map(|r| r.data.to_vec()).collect()
    };
    assert_eq!(of(Stream::Stdout), b"one\ntwo");
    assert_eq!(of(Stream::Stderr), b"oh\n");
    let request = ListArtifactsRequest { job: job.id.clone(), ..ListArtifactsRequest::default() };
    let artifacts =
        local.jobs.clone().list_artifacts(request).await.expect("a manifest").into_inner().artifacts;
    let files: Vec<_> = artifacts.iter().map(|a| (&a.path[..], a.size)).collect();
    assert_eq!(files, [(&b"a.txt"[..], 11), (b"b/c.bin", 3_000_000)]);
    local.stop().await;
}

#[tokio::test]
async fn an_exit_code_is_the_users_and_keeps_the_files() {
    let local = Local::start(&[Arc::new(FakeHost::new())]).await;
    let job = local.submit(scripted(&[("FAKE_EXIT", "3"), ("FAKE_FILES", "a.txt:5")])).await;
    let job = local.finished(&job.id).await;
    let outcome = job.outcome.expect("it ended");
    assert_eq!((outcome.name.as_str(), outcome.exit_code), ("exit_code", 3));
    assert_eq!(job.attempts, 1, "a user's outcome is not tried again");
    assert_eq!(local.get(&job.id).await.attempts[0].artifact_count, 1);
    local.stop().await;
}

#[tokio::test]
async fn a_job_waits_for_the_first_machine_to_join() {
    let mut local = Local::start(&[]).await;
    let job = local.submit(scripted(&[])).await;
    let waiting = local.get(&job.id).await.waiting.expect("it says why it waits");
    assert!(waiting.summary.contains("agent"), "{waiting:#?}");
    local.join(&Arc::new(FakeHost::new())).await;
    assert_eq!(local.finished(&job.id).await.state(), JobState::Succeeded);
    local.stop().await;
}
