//! What an attempt ran is on record, and can be run again although its name means another image by now.

use longshore_agent::host::fake::FakeHost;
use longshore_proto::v1::{Attempt, Job, JobSpec, RetryJobRequest, RetryPolicy};
use longshore_tests::local::{Local, scripted};
use std::sync::Arc;
use tonic::Code;

/// A name that means another image at every look, in a job of two attempts.
fn moving(pin: bool) -> JobSpec {
    JobSpec {
        image: "fake.moving/app:1".to_owned(),
        pin,
        retry: Some(RetryPolicy {
            attempts: 2,
            backoff: Some(prost_types::Duration { seconds: 0, nanos: 1_000_000 }),
            on: vec!["exit_code".to_owned()],
            ..RetryPolicy::default()
        }),
        ..scripted(&[("FAKE_EXIT", "3")])
    }
}

async fn attempts(local: &Local, job: &Job) -> Vec<Attempt> {
    local.finished(&job.id).await;
    local.get(&job.id).await.attempts
}

async fn again(local: &Local, job: &Job) -> Result<Job, tonic::Status> {
    let request = RetryJobRequest { job: job.id.clone(), pin: true, ..RetryJobRequest::default() };
    let answer = local.jobs.clone().retry(request).await?;
    Ok(answer.into_inner().job.expect("a job"))
}

#[tokio::test]
async fn a_pinned_job_runs_one_digest_in_all_its_attempts_and_another_what_its_name_means() {
    let local = Local::start(&[Arc::new(FakeHost::new())]).await;
    let loose = local.submit(moving(false)).await;
    let loose = attempts(&local, &loose).await;
    assert_eq!(loose.len(), 2);
    assert!(loose.iter().all(|attempt| attempt.digest.starts_with("sha256:")), "{loose:#?}");
    assert_ne!(loose[0].digest, loose[1].digest);
    let pinned = local.submit(moving(true)).await;
    let pinned = attempts(&local, &pinned).await;
    assert_eq!(pinned.len(), 2);
    assert_eq!(pinned[0].digest, pinned[1].digest);
    local.stop().await;
}

#[tokio::test]
async fn a_pinned_retry_runs_what_the_last_attempt_ran_and_says_so_if_nobody_knows_that() {
    let local = Local::start(&[Arc::new(FakeHost::new())]).await;
    let old = local.submit(moving(false)).await;
    let ran = attempts(&local, &old).await;
    let new = again(&local, &old).await.expect("taken");
    assert_eq!(new.spec.clone().expect("a spec").image, format!("fake.moving/app:1@{}", ran[1].digest));
    for attempt in attempts(&local, &new).await {
        assert_eq!(attempt.digest, ran[1].digest);
    }
    let twice = again(&local, &new).await.expect("taken");
    assert_eq!(twice.spec.expect("a spec").image, new.spec.expect("a spec").image);

    let built = JobSpec { image: "fake.built/app:1".to_owned(), ..scripted(&[]) };
    let old = local.submit(built.clone()).await;
    assert_eq!(attempts(&local, &old).await[0].digest, "");
    let refused = again(&local, &old).await.expect_err("nobody knows what it was");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("fake.built/app:1"), "{refused}");
    let pinned = local.submit(JobSpec { pin: true, ..built }).await;
    let outcome = local.finished(&pinned.id).await.outcome.expect("it ended");
    assert_eq!(outcome.name, "image_not_found");
    assert!(outcome.detail.contains("cannot be pinned"), "{outcome:?}");
    local.stop().await;
}
