//! Following logs.

use crate::harness::{Agent, Cluster, PATIENCE, lines, report, spec};
use longshore_proto::v1::{self, StreamLogsRequest, StreamLogsResponse};
use std::time::Duration;
use tokio::time::Instant;
use tonic::Streaming;

async fn follow(cluster: &Cluster, request: StreamLogsRequest) -> Streaming<StreamLogsResponse> {
    cluster.jobs.clone().stream_logs(request).await.expect("opened").into_inner()
}

async fn next(stream: &mut Streaming<StreamLogsResponse>) -> Option<StreamLogsResponse> {
    tokio::time::timeout(PATIENCE, stream.message()).await.expect("in time").expect("no error")
}

fn text(message: &StreamLogsResponse) -> String {
    message.records.iter().map(|record| String::from_utf8_lossy(&record.data).into_owned()).collect()
}

fn following(job: &str) -> StreamLogsRequest {
    StreamLogsRequest { job: job.to_owned(), follow: true, ..StreamLogsRequest::default() }
}

#[tokio::test]
async fn a_follower_sees_lines_live_and_ends_with_the_job() {
    let cluster = Cluster::start().await;
    let mut agent = Agent::connect(&cluster, "a").await;
    let job = cluster.submit(spec("x")).await;
    // Before there is an attempt.
    let mut stream = follow(&cluster, following(&job.id)).await;
    let attempt = agent.claim_one().await;
    let (mut offset, mut fastest) = (0, Duration::MAX);
    for n in 0..5 {
        let line = format!("line {n}\n");
        let sent = Instant::now();
        offset = agent.append(&attempt, offset, lines(n, &[&line])).await.stored;
        let message = next(&mut stream).await.expect("a message");
        fastest = fastest.min(sent.elapsed());
        assert_eq!((text(&message), message.next_offset, message.attempt), (line, offset, 1));
    }
    // One of them, at least, where other tests keep the machine busy.
    assert!(fastest < Duration::from_millis(250), "{fastest:?}");
    let done = v1::FinishReport { log_end: offset, ..report(&attempt, "succeeded") };
    assert_eq!(agent.finish(done).await, None);
    let last = next(&mut stream).await.expect("the end is told");
    assert!(last.end && last.records.is_empty() && last.next_offset == offset, "{last:?}");
    assert!(next(&mut stream).await.is_none());
}

#[tokio::test]
async fn a_follower_goes_on_into_the_next_attempt() {
    let cluster = Cluster::start().await;
    let mut agent = Agent::connect(&cluster, "a").await;
    let retry = v1::RetryPolicy {
        attempts: 2,
        backoff: Some(prost_types::Duration { seconds: 0, nanos: 1_000_000 }),
        on: vec!["exit_code".to_owned()],
        ..v1::RetryPolicy::default()
    };
    let job = cluster.submit(v1::JobSpec { retry: Some(retry), ..spec("x") }).await;
    let mut stream = follow(&cluster, following(&job.id)).await;
    for number in 1..=2 {
        // The second attempt comes after its backoff.
        cluster.until_queued(&job.id).await;
        let attempt = agent.claim_one().await;
        let line = format!("attempt {number}\n");
        let end = agent.append(&attempt, 0, lines(0, &[&line])).await.stored;
        let message = next(&mut stream).await.expect("a message");
        assert_eq!((text(&message), message.attempt), (line, number));
        let done = v1::FinishReport { log_end: end, ..report(&attempt, "exit_code(1)") };
        assert_eq!(agent.finish(done).await, None);
        let end = next(&mut stream).await.expect("the end of this attempt");
        assert_eq!((end.end, end.attempt), (true, number));
    }
    assert!(next(&mut stream).await.is_none());
}

#[tokio::test]
async fn a_reader_resumes_tails_and_filters() {
    let cluster = Cluster::start().await;
    let mut agent = Agent::connect(&cluster, "a").await;
    let job = cluster.submit(spec("x")).await;
    let attempt = agent.claim_one().await;
    let first = agent.append(&attempt, 0, lines(0, &["a\n"])).await.stored;
    agent.append(&attempt, first, lines(1, &["b\n", "c\n"])).await;
    let request = |job: &str| StreamLogsRequest { job: job.to_owned(), ..StreamLogsRequest::default() };
    for (request, expected) in [
        (request(&job.id), "a\nb\nc\n"),
        (StreamLogsRequest { offset: first, ..request(&job.id) }, "b\nc\n"),
        (StreamLogsRequest { tail: Some(1), ..request(&job.id) }, "c\n"),
        (StreamLogsRequest { streams: vec![v1::Stream::Stdout as i32], ..request(&job.id) }, "a\nb\nc\n"),
    ] {
        let mut stream = follow(&cluster, request.clone()).await;
        let message = next(&mut stream).await.expect("a message");
        assert_eq!(text(&message), expected, "{request:?}");
        let last = next(&mut stream).await.expect("the last message");
        assert!(!last.end, "the attempt still runs");
        assert!(next(&mut stream).await.is_none());
    }
    let stderr = StreamLogsRequest { streams: vec![v1::Stream::Stderr as i32], ..request(&job.id) };
    let only = next(&mut follow(&cluster, stderr).await).await.expect("the last message");
    assert!(only.records.is_empty());
}

#[tokio::test]
async fn a_job_cancelled_in_the_queue_has_an_empty_log_that_ends() {
    let cluster = Cluster::start().await;
    let job = cluster.submit(spec("x")).await;
    let mut stream = follow(&cluster, following(&job.id)).await;
    let cancel = v1::CancelJobsRequest { jobs: vec![job.id.clone()], ..v1::CancelJobsRequest::default() };
    cluster.jobs.clone().cancel(cancel).await.expect("taken");
    let last = next(&mut stream).await.expect("the end is told");
    assert!(last.end && last.records.is_empty());
    assert!(next(&mut stream).await.is_none());
}

#[tokio::test]
async fn an_attempt_run_again_after_a_restore_has_a_log_of_its_own() {
    let cluster = Cluster::start().await;
    let job = cluster.submit(spec("x")).await;
    let database = cluster.folder.path().join("longshore.db");
    let copy = cluster.folder.path().join("copy.db");
    longshore_controller::store::backup(&database, &copy).await.expect("copied");
    let mut agent = Agent::connect(&cluster, "a").await;
    let attempt = agent.claim_one().await;
    agent.append(&attempt, 0, lines(0, &["before the restore\n"])).await;
    drop(agent);
    let folder = cluster.stop().await;
    longshore_controller::store::restore(&copy, &database, true).await.expect("restored");

    let cluster = Cluster::start_in(folder).await;
    let mut agent = Agent::connect(&cluster, "a").await;
    let again = agent.claim_one().await;
    assert_eq!((again.attempt, attempt.attempt), (1, 1));
    let end = agent.append(&again, 0, lines(0, &["after\n"])).await.stored;
    assert_eq!(agent.finish(v1::FinishReport { log_end: end, ..report(&again, "succeeded") }).await, None);
    let message = next(&mut follow(&cluster, following(&job.id)).await).await.expect("a message");
    assert_eq!((text(&message), message.next_offset), ("after\n".to_owned(), end));
}
