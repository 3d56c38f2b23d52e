//! One job's path, step by step.

use crate::harness::{Agent, Cluster, PATIENCE, http, lines, report, spec};
use longshore_proto::v1::{self, JobState, link_request, link_response::Message};

#[tokio::test]
async fn a_job_goes_from_submit_to_its_files() {
    let cluster = Cluster::start().await;
    let mut agent = Agent::connect(&cluster, "gpu-01").await;
    let job = cluster.submit(spec("rsl/trainer:1")).await;
    assert_eq!((job.id.len(), job.state()), (8, JobState::Queued));
    let attempt = agent.claim_one().await;

    let held = v1::HeldAttempt {
        r#ref: Some(attempt.clone()),
        phase: JobState::Running as i32,
        ..v1::HeldAttempt::default()
    };
    let beat = v1::Heartbeat { sequence: 1, held: vec![held], ..v1::Heartbeat::default() };
    agent.say(link_request::Message::Heartbeat(beat)).await;
    let Message::Renewed(renewed) = agent.hear_of_work().await else { panic!("not renewed") };
    assert_eq!((renewed.sequence, renewed.fenced.len()), (1, 0));
    let seen = cluster.get(&job.id).await;
    let running = seen.job.expect("a job");
    assert_eq!((running.state(), running.agent.as_str()), (JobState::Running, "gpu-01"));

    let log = lines(0, &["one\n", "two\n"]);
    let appended = agent.append(&attempt, 0, log.clone()).await;
    assert_eq!((appended.stored, appended.error), (log.len() as u64, None));
    agent.store(&attempt, &[("report.txt", b"all well"), ("sub/\u{1f600}.bin", b"\0\x01")]).await;
    let done = v1::FinishReport {
        log_end: log.len() as u64,
        manifest_pages: 1,
        artifact_count: 2,
        artifact_bytes: 10,
        ..report(&attempt, "exit_code(3)")
    };
    assert_eq!(agent.finish(done.clone()).await, None);
    assert_eq!(agent.finish(done).await, None, "a repeat is accepted");

    let ended = cluster.wait(&job.id).await;
    let outcome = ended.outcome.as_ref().expect("an outcome");
    assert_eq!((ended.state(), outcome.name.as_str(), outcome.exit_code), (JobState::Failed, "exit_code", 3));
    assert_eq!(outcome.hint, format!("read the last lines: longshore logs {}", job.id));
    let files = artifacts(&cluster, &job.id).await;
    assert_eq!(
        files,
        [("report.txt".into(), b"all well".to_vec()), ("sub/\u{1f600}.bin".into(), vec![0, 1])]
    );
}

/// Names and contents of all artifacts, fetched by their addresses.
pub(crate) async fn artifacts(cluster: &Cluster, job: &str) -> Vec<(String, Vec<u8>)> {
    let request = v1::ListArtifactsRequest { job: job.to_owned(), ..v1::ListArtifactsRequest::default() };
    let list = cluster.jobs.clone().list_artifacts(request).await.expect("listed").into_inner();
    let paths: Vec<_> = list.artifacts.iter().map(|artifact| artifact.path.clone()).collect();
    let request = v1::GetArtifactUrlsRequest { job: job.to_owned(), attempt: 0, paths: paths.clone() };
    let urls = cluster.jobs.clone().get_artifact_urls(request).await.expect("signed").into_inner().urls;
    let mut files = Vec::new();
    for (path, url) in paths.iter().zip(urls) {
        let body = http().get(url).send().await.expect("sent").bytes().await.expect("read");
        files.push((String::from_utf8_lossy(path).into_owned(), body.to_vec()));
    }
    files
}

#[tokio::test]
async fn a_listening_agent_is_rung_and_a_cancel_comes_down_its_link() {
    let cluster = Cluster::start().await;
    let mut agent = Agent::connect(&cluster, "a").await;
    let lanes = agent.welcome.lanes.clone();
    agent.say(link_request::Message::Listen(v1::Listen { lanes, ..v1::Listen::default() })).await;
    let job = cluster.submit(spec("x")).await;
    let Message::Work(work) = agent.hear_of_work().await else { panic!("not rung") };
    assert_eq!((work.lane.as_str(), work.hints), ("default.cpu", 1));
    let attempt = agent.claim_one().await;

    let cancel = v1::CancelJobsRequest {
        jobs: vec![job.id.clone()],
        reason: "wrong data".to_owned(),
        ..v1::CancelJobsRequest::default()
    };
    let answer = cluster.jobs.clone().cancel(cancel).await.expect("taken").into_inner();
    assert!(answer.jobs[0].cancel_requested);
    let stop = loop {
        if let Message::Stop(stop) = agent.hear().await {
            break stop;
        }
    };
    assert_eq!((stop.r#ref.as_ref(), stop.reason()), (Some(&attempt), v1::StopReason::Cancel));
    assert!(stop.detail.contains("wrong data"), "{}", stop.detail);
    assert_eq!(agent.finish(report(&attempt, "cancelled")).await, None);
    assert_eq!(cluster.wait(&job.id).await.state(), JobState::Cancelled);
}

#[tokio::test]
async fn jobs_logs_and_files_outlive_the_controller() {
    let cluster = Cluster::start().await;
    let mut agent = Agent::connect(&cluster, "a").await;
    let job = cluster.submit(spec("x")).await;
    let attempt = agent.claim_one().await;
    let log = lines(0, &["kept\n"]);
    agent.append(&attempt, 0, log.clone()).await;
    agent.store(&attempt, &[("a", b"1")]).await;
    let done = v1::FinishReport {
        log_end: log.len() as u64,
        manifest_pages: 1,
        artifact_count: 1,
        artifact_bytes: 1,
        ..report(&attempt, "succeeded")
    };
    assert_eq!(agent.finish(done).await, None);
    let cluster = Cluster::start_in(cluster.stop().await).await;
    assert_eq!(cluster.get(&job.id).await.job.expect("a job").state(), JobState::Succeeded);
    assert_eq!(artifacts(&cluster, &job.id).await, [("a".to_owned(), b"1".to_vec())]);
    let request = v1::StreamLogsRequest { job: job.id, ..v1::StreamLogsRequest::default() };
    let mut stream = cluster.jobs.clone().stream_logs(request).await.expect("opened").into_inner();
    let first = stream.message().await.expect("read").expect("a message");
    assert_eq!(&first.records[0].data[..], b"kept\n");
}

#[tokio::test]
async fn a_retry_is_a_new_job_with_what_was_changed() {
    let cluster = Cluster::start().await;
    let mut agent = Agent::connect(&cluster, "a").await;
    let job = cluster.submit(spec("x")).await;
    let attempt = agent.claim_one().await;
    assert_eq!(agent.finish(report(&attempt, "oom_killed")).await, None);
    let resources = v1::Resources { memory_bytes: Some(8 << 30), ..v1::Resources::default() };
    let request = v1::RetryJobRequest {
        job: job.id.clone(),
        resources: Some(resources),
        ..v1::RetryJobRequest::default()
    };
    let again = cluster.jobs.clone().retry(request).await.expect("made").into_inner().job.expect("a job");
    assert_eq!(again.retry_of, job.id);
    assert_ne!(again.id, job.id);
    let resources = again.spec.expect("a spec").resources.expect("set");
    assert_eq!((resources.memory_bytes, resources.cpu_millis), (Some(8 << 30), Some(1000)));
}

#[tokio::test]
async fn a_removed_job_leaves_nothing() {
    let cluster = Cluster::start().await;
    let mut agent = Agent::connect(&cluster, "a").await;
    let job = cluster.submit(spec("x")).await;
    let remove = || v1::RemoveJobsRequest { jobs: vec![job.id.clone()], ..v1::RemoveJobsRequest::default() };
    let early = cluster.jobs.clone().remove(remove()).await.expect_err("it has not ended");
    assert_eq!(early.code(), tonic::Code::FailedPrecondition);
    let attempt = agent.claim_one().await;
    agent.append(&attempt, 0, lines(0, &["x\n"])).await;
    agent.store(&attempt, &[("a", b"1")]).await;
    let done = v1::FinishReport {
        log_end: lines(0, &["x\n"]).len() as u64,
        manifest_pages: 1,
        artifact_count: 1,
        artifact_bytes: 1,
        ..report(&attempt, "succeeded")
    };
    assert_eq!(agent.finish(done).await, None);
    let files = || {
        let count = |folder: &str| walk(&cluster.folder.path().join(folder));
        (count("logs"), count("blobs/objects"))
    };
    assert_eq!(files(), (1, 1));
    assert_eq!(cluster.jobs.clone().remove(remove()).await.expect("removed").into_inner().removed, 1);
    // The bytes go by a sweep that a removal wakes.
    let started = tokio::time::Instant::now();
    while files() != (0, 0) {
        assert!(started.elapsed() < PATIENCE, "{:?} stay behind", files());
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let gone = cluster.jobs.clone().get(v1::GetJobRequest { job: job.id.clone() }).await;
    assert_eq!(gone.expect_err("gone").code(), tonic::Code::NotFound);
}

/// Files below a folder.
fn walk(folder: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .map(|entry| entry.expect("listed").path())
        .map(|path| if path.is_dir() { walk(&path) } else { 1 })
        .sum()
}
