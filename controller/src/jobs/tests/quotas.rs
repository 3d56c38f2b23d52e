//! What a project may queue, hold and keep.

use super::*;
use crate::identity::{Project, Quotas, Settings};
use longshore_common::{agent::LaneAnswer, job::ImagePolicy};
use std::time::Duration;

async fn bounded(bench: &Bench, settings: Settings) {
    let project = Project { settings, ..Project::new("default") };
    bench.jobs.put_project(project).await.expect("stored");
}

#[tokio::test]
async fn no_more_jobs_wait_than_the_project_may_queue() {
    let bench = Bench::new().await;
    let quotas = Quotas { queued: Some(2), ..Quotas::default() };
    bounded(&bench, Settings { quotas, ..Settings::default() }).await;
    let new = |request: &str| NewJob {
        request_id: Some(request.to_owned()),
        project: "default".into(),
        spec: spec(),
        retry_of: None,
        own: Vec::new(),
        submitter: None,
    };
    let batch = vec![new("a"), new("b"), new("c"), new("a")];
    let answers = bench.jobs.submit(batch).await.expect("stored");
    assert!(answers[0].is_ok() && answers[1].is_ok());
    assert!(matches!(&answers[2], Err(SubmitError::OverQuota { what, .. }) if what.contains("may have 2")));
    assert!(answers[3].as_ref().is_ok_and(|again| again.existing), "a repeat is no more");
    assert_eq!(bench.claim(AgentId::new(), offer(16, 1)).await.grants.len(), 1);
    assert!(bench.submit_as(None, spec()).await.is_ok(), "one has left the queue");
    assert!(bench.submit_as(None, spec()).await.is_err());
}

#[tokio::test]
async fn no_more_is_held_than_the_project_may_hold_and_what_waits_for_that_says_so() {
    let bench = Bench::new().await;
    let quotas = Quotas { running: Some(2), cpu_millis: Some(3_000), ..Quotas::default() };
    bounded(&bench, Settings { quotas, ..Settings::default() }).await;
    let mut jobs = Vec::new();
    for _ in 0..3 {
        jobs.push(bench.submit(spec()).await);
    }
    let agent = AgentId::new();
    let claimed = bench.claim(agent, offer(16, 8)).await;
    assert_eq!(claimed.grants.len(), 2);
    let lane = jobs[2].lane.clone();
    assert_eq!(claimed.lanes[&lane], LaneAnswer::MoreButNotForYou, "asking again at once is no use");
    assert!(bench.claim(AgentId::new(), offer(16, 8)).await.grants.is_empty(), "over all machines");
    bench.jobs.hello(identity("one"), inventory(16, Vec::new())).await.expect("known");
    let why = bench.jobs.explain(jobs[2].id).await.expect("explained");
    assert_eq!(why.agents[0].reason, "project default holds 2 of its 2 running jobs");
    bench.finish(report(claimed.grants[0].attempt, Outcome::Succeeded)).await.expect("taken");
    assert_eq!(bench.claim(agent, offer(16, 8)).await.grants.len(), 1);
    let mut large = spec();
    large.resources.cpu_millis = 4_000;
    let large = bench.submit(large).await;
    let why = bench.jobs.explain(large.id).await.expect("explained");
    assert!(why.agents[0].permanent && why.agents[0].reason.contains("quota"), "{why:?}");
}

#[tokio::test]
async fn a_project_that_keeps_all_it_may_begins_nothing() {
    let bench = Bench::new().await;
    let quotas = Quotas { storage: Some(10), ..Quotas::default() };
    bounded(&bench, Settings { quotas, ..Settings::default() }).await;
    let (_, grant) = bench.held(spec()).await;
    let mut kept = report(grant.attempt, Outcome::Succeeded);
    (kept.artifact_bytes, kept.artifact_count) = (0, 0);
    bench.finish(kept).await.expect("taken");
    assert!(bench.submit_as(None, spec()).await.is_ok());
    let quotas = Quotas { storage: Some(0), ..Quotas::default() };
    bounded(&bench, Settings { quotas, ..Settings::default() }).await;
    let refused = bench.submit_as(None, spec()).await.expect_err("full");
    assert!(refused.to_string().contains("remove some jobs"), "{refused}");
}

#[tokio::test]
async fn a_projects_images_and_retention_are_its_own() {
    let bench = Bench::new().await;
    let images =
        ImagePolicy { allow: vec!["rslethz/*".parse().expect("a pattern")], ..ImagePolicy::default() };
    let retention = Some(Duration::from_secs(60));
    bounded(&bench, Settings { images, retention, ..Settings::default() }).await;
    assert!(
        matches!(bench.submit_as(None, spec()).await, Err(SubmitError::BadInput { field, .. }) if field == "image")
    );
    let (_, grant) = bench.held(JobSpec::for_image("rslethz/x:1")).await;
    bench.finish(report(grant.attempt, Outcome::Succeeded)).await.expect("taken");
    let job = bench.jobs.get(grant.attempt.job).await.expect("there");
    let (end, expires) = (job.finished_at.expect("ended"), job.expires_at.expect("set"));
    assert_eq!(expires.since(end), Duration::from_secs(60));
}
