//! Waiting for one job, watching many.

use crate::harness::{Agent, Cluster, PATIENCE, report, spec};
use longshore_proto::v1::{self, JobState};
use std::time::Duration;
use tokio::time::{Instant, timeout};

#[tokio::test]
async fn a_wait_ends_with_the_job_or_its_time() {
    let cluster = Cluster::start().await;
    let mut agent = Agent::connect(&cluster, "a").await;
    let job = cluster.submit(spec("x")).await;
    let short = v1::WaitJobRequest {
        job: job.id.clone(),
        timeout: Some(prost_types::Duration { seconds: 0, nanos: 50_000_000 }),
        after_revision: 0,
    };
    let answer = cluster.jobs.clone().wait(short).await.expect("answered").into_inner();
    assert!(!answer.finished);
    let attempt = agent.claim_one().await;
    let (ended, refused) = tokio::join!(cluster.wait(&job.id), agent.finish(report(&attempt, "succeeded")));
    assert_eq!((ended.state(), refused), (JobState::Succeeded, None));
}

#[tokio::test]
async fn a_wait_past_a_revision_answers_on_any_change() {
    let cluster = Cluster::start().await;
    let mut agent = Agent::connect(&cluster, "a").await;
    let job = cluster.submit(spec("x")).await;
    let request =
        v1::WaitJobRequest { job: job.id, after_revision: job.revision, ..v1::WaitJobRequest::default() };
    let mut jobs = cluster.jobs.clone();
    let (answer, _) = tokio::join!(jobs.wait(request), agent.claim());
    let answer = answer.expect("answered").into_inner();
    assert!(!answer.finished);
    assert_eq!(answer.job.expect("a job").state(), JobState::Claimed);
}

#[tokio::test]
async fn a_watch_tells_every_job_and_resumes() {
    let cluster = Cluster::start().await;
    let mut agent = Agent::connect(&cluster, "a").await;
    let request = v1::WatchJobsRequest::default();
    let mut stream = cluster.jobs.clone().watch(request).await.expect("opened").into_inner();
    let job = cluster.submit(spec("x")).await;
    let first =
        timeout(PATIENCE, stream.message()).await.expect("in time").expect("read").expect("a message");
    assert_eq!(first.job.expect("a job").id, job.id);
    drop(stream);
    // What happens meanwhile is told on return.
    let attempt = agent.claim_one().await;
    assert_eq!(agent.finish(report(&attempt, "succeeded")).await, None);
    let request = v1::WatchJobsRequest { from_revision: first.revision, ..Default::default() };
    let mut stream = cluster.jobs.clone().watch(request).await.expect("opened").into_inner();
    let last = loop {
        let message = timeout(PATIENCE, stream.message()).await.expect("in time").expect("read");
        let job = message.expect("a message").job.expect("a job");
        if job.state() == JobState::Succeeded {
            break job;
        }
    };
    assert_eq!(last.id, job.id);
}

#[tokio::test]
async fn a_leaving_controller_ends_its_streams() {
    let cluster = Cluster::start().await;
    let mut agent = Agent::connect(&cluster, "a").await;
    let job = cluster.submit(spec("x")).await;
    let request = v1::StreamLogsRequest { job: job.id, follow: true, ..Default::default() };
    let mut logs = cluster.jobs.clone().stream_logs(request).await.expect("opened").into_inner();
    let mut watch =
        cluster.jobs.clone().watch(v1::WatchJobsRequest::default()).await.expect("opened").into_inner();
    let started = Instant::now();
    cluster.running.shutdown.trigger();
    let link = loop {
        // What it was told before comes first.
        if let Err(error) = agent.down.message().await.map(|message| message.expect("no silent end")) {
            break error;
        }
    };
    for ended in [logs.message().await.err(), watch.message().await.err(), Some(link)] {
        assert_eq!(ended.expect("told").code(), tonic::Code::Unavailable);
    }
    timeout(PATIENCE, cluster.running.join()).await.expect("leaves");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}
