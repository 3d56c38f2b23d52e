//! Work behind ten thousand jobs that nobody here can take.

use longshore_agent::host::fake::FakeHost;
use longshore_proto::v1::{JobSpec, JobState, StringList, SubmitBatchRequest, SubmitRequest};
use longshore_tests::local::{Local, scripted};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

#[tokio::test]
async fn work_behind_ten_thousand_jobs_for_other_machines_starts_within_seconds() {
    let local = Local::start(&[Arc::new(FakeHost::new())]).await;
    let elsewhere = StringList { values: vec!["nowhere".to_owned()] };
    let spec = JobSpec { agents: [("site".to_owned(), elsewhere)].into(), ..scripted(&[]) };
    for _ in 0..10 {
        let request = SubmitRequest { spec: Some(spec.clone()), ..SubmitRequest::default() };
        let requests = vec![request; 1000];
        let batch = SubmitBatchRequest { requests };
        let answer = local.jobs.clone().submit_batch(batch).await.expect("taken").into_inner();
        assert!(answer.results.iter().all(|result| result.submitted.is_some()));
    }
    let submitted = Instant::now();
    let job = local.submit(scripted(&[("FAKE_RUN", "10ms")])).await;
    let job = local.finished(&job.id).await;
    let took = submitted.elapsed();
    assert_eq!(job.state(), JobState::Succeeded);
    assert!(took < Duration::from_secs(15), "found after {took:?}");
    local.stop().await;
}
