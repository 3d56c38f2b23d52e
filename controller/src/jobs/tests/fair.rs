//! Whose job is next, and what is kept for whom.

use super::*;
use crate::identity::{Project, Settings, Weight};
use longshore_common::job::GpuRequest;

pub(super) async fn project(bench: &Bench, name: &str, weight: u32) {
    let settings = Settings { weight: Weight::new(weight).expect("in range"), ..Settings::default() };
    bench.jobs.put_project(Project { settings, ..Project::new(name) }).await.expect("stored");
}

pub(super) async fn many(
    bench: &Bench,
    project: &str,
    spec: JobSpec,
    count: usize,
) -> Vec<longshore_common::ids::JobId> {
    let new = || NewJob {
        request_id: None,
        project: project.into(),
        spec: spec.clone(),
        retry_of: None,
        own: Vec::new(),
        submitter: None,
    };
    let submitted = bench.jobs.submit((0..count).map(|_| new()).collect()).await.expect("stored");
    submitted.into_iter().map(|answer| answer.expect("taken").job.id).collect()
}

pub(super) fn with_gpus(count: u32, minutes: u64) -> JobSpec {
    let mut spec = spec();
    spec.resources.gpu = Some(GpuRequest::of(count));
    spec.deadlines.run = std::time::Duration::from_secs(minutes * 60);
    spec
}

pub(super) fn gpu(index: u32) -> Gpu {
    Gpu {
        index,
        uuid: format!("GPU-{index}"),
        model: "NVIDIA A10".into(),
        memory_bytes: 24 * GIB,
        ..Gpu::default()
    }
}

/// An offer of these GPUs.
pub(super) fn free(gpus: &[u32], slots: u32) -> Offer {
    let mut offer = offer(16, slots);
    offer.gpus = gpus.iter().map(|index| gpu(*index)).collect();
    offer.free.gpus = u32::try_from(gpus.len()).expect("few");
    offer
}

#[tokio::test]
async fn projects_get_what_they_weigh_whoever_queued_first_and_most() {
    let bench = Bench::new().await;
    project(&bench, "first", 1).await;
    project(&bench, "second", 3).await;
    let agent = identity("a");
    bench.jobs.hello(agent.clone(), inventory(64, vec![])).await.expect("stored");
    many(&bench, "first", spec(), 700).await;
    many(&bench, "second", spec(), 40).await;
    let claimed = bench.claim(agent.id, offer(64, 16)).await;
    let second = claimed.grants.iter().filter(|grant| grant.project == "second").count();
    assert_eq!((claimed.grants.len(), second), (16, 12));
    let mut urgent = spec();
    urgent.priority = 1;
    many(&bench, "first", urgent, 1).await;
    let claimed = bench.claim(agent.id, offer(48, 1)).await;
    assert_eq!(claimed.grants[0].project, "first", "priority is before share");
}

#[tokio::test]
async fn a_large_job_that_waited_long_is_not_overtaken_for_ever() {
    let bench = Bench::new().await;
    let bench = bench.reopen(Config { reserve_after: std::time::Duration::ZERO, ..Config::default() }).await;
    let agent = identity("a");
    bench.jobs.hello(agent.clone(), inventory(64, (0..4).map(gpu).collect())).await.expect("stored");
    let stream = many(&bench, "default", with_gpus(1, 600), 1).await;
    let first = bench.claim(agent.id, free(&[0, 1, 2, 3], 1)).await;
    assert_eq!(first.grants[0].attempt.job, stream[0]);
    let large = bench.submit(with_gpus(4, 60)).await;
    let stream = many(&bench, "default", with_gpus(1, 1200), 5).await;
    let passed = bench.claim(agent.id, free(&[1, 2, 3], 1)).await;
    assert_eq!(passed.grants[0].attempt.job, stream[0], "what goes before it shows that it is passed over");
    let kept = bench.claim(agent.id, free(&[2, 3], 2)).await;
    assert_eq!(kept.grants.len(), 0, "the machine is emptied for it");
    let gpus = (0..4).map(|index| Gpu { job: (index < 2).then(|| "x".to_owned()), ..gpu(index) });
    let (amounts, gpus) = (free(&[2, 3], 1).free, gpus.collect());
    bench.jobs.agent_report(agent.id, AgentReport { free: amounts, gpus, ..AgentReport::default() });
    let told = bench.jobs.explain(stream[1]).await.expect("there");
    assert!(told.agents[0].reason.starts_with("is kept for a job"), "{told:?}");
    let told = bench.jobs.explain(large.id).await.expect("there");
    assert!(told.agents[0].reason.ends_with("the machine is kept for this job"), "{told:?}");
    assert!(told.estimate.is_some());
    let short = many(&bench, "default", with_gpus(1, 5), 1).await;
    let backfilled = bench.claim(agent.id, free(&[2, 3], 2)).await;
    assert_eq!(backfilled.grants.iter().map(|grant| grant.attempt.job).collect::<Vec<_>>(), short);
    for grant in [first, passed, backfilled].iter().flat_map(|claimed| &claimed.grants) {
        bench.finish(report(grant.attempt, Outcome::Succeeded)).await.expect("taken");
    }
    let begun = bench.claim(agent.id, free(&[0, 1, 2, 3], 2)).await;
    assert_eq!(begun.grants.iter().map(|grant| grant.attempt.job).collect::<Vec<_>>(), [large.id]);
    bench.finish(report(begun.grants[0].attempt, Outcome::Succeeded)).await.expect("taken");
    assert_eq!(bench.claim(agent.id, free(&[0, 1], 2)).await.grants.len(), 2, "and it is kept no more");
}

#[tokio::test]
async fn a_job_that_is_only_asked_about_is_judged_and_not_queued() {
    let bench = Bench::new().await;
    let agent = identity("a");
    bench.jobs.hello(agent.clone(), inventory(64, (0..2).map(gpu).collect())).await.expect("stored");
    let told = bench.jobs.explain_new("default", &with_gpus(2, 60)).await.expect("answered");
    assert_eq!((told.place, told.agents[0].reason.as_str()), (1, "has room; it would take the job at once"));
    assert!(told.changes.is_empty());
    let told = bench.jobs.explain_new("default", &with_gpus(3, 60)).await.expect("answered");
    assert_eq!(told.summary, "no agent can ever take it; a: needs 3 GPUs, has 2");
    assert_eq!(told.changes, ["resources.gpu.count: 2 at most (a)"]);
    let claimed = bench.claim(agent.id, free(&[0, 1], 2)).await;
    assert_eq!(claimed.grants.len(), 0);
}

#[tokio::test]
async fn who_holds_it_and_until_when_is_told_but_not_to_other_projects() {
    let bench = Bench::new().await;
    project(&bench, "other", 1).await;
    let agent = identity("a");
    bench.jobs.hello(agent.clone(), inventory(64, vec![gpu(0)])).await.expect("stored");
    let [held] = many(&bench, "default", with_gpus(1, 60), 1).await[..] else { panic!("one") };
    assert_eq!(bench.claim(agent.id, free(&[0], 1)).await.grants.len(), 1);
    let name = bench.jobs.get(held).await.expect("there").short_id.to_string();
    let told = Gpu { job: Some(name.clone()), ..gpu(0) };
    let free = Capacity { gpus: 0, ..offer(60, 1).free };
    bench.jobs.agent_report(agent.id, AgentReport { free, gpus: vec![told], ..AgentReport::default() });
    let explain = async |project: &str| {
        let told = bench.jobs.explain_new(project, &with_gpus(1, 60)).await.expect("answered");
        let agent = told.agents[0].clone();
        let hours = agent.until.expect("by its deadline").since(longshore_common::clock::Timestamp::now());
        assert!((80..=91).contains(&(hours.as_secs() / 60)), "30 min to prepare, an hour to run: {hours:?}");
        agent.reason
    };
    assert_eq!(explain("default").await, format!("needs 1 GPU, 0 free; GPU 0: job {name}"));
    assert_eq!(explain("other").await, "needs 1 GPU, 0 free; GPU 0: job of another project");
}
