//! Machines that are kept for large jobs: what ends that, and what must not; and that nobody is told otherwise than the
//! claim does.

use super::{
    fair::{free, gpu, many, project, with_gpus},
    *,
};
use crate::identity::{Project, Quotas, Settings};
use longshore_common::{
    agent::Keeper,
    clock::Timestamp,
    fleet::{Cordon, Pause},
};
use std::time::Duration;

const LONG: u64 = 1200;

/// Nobody waits before a machine is kept.
async fn impatient() -> Bench {
    Bench::new().await.reopen(Config { reserve_after: Duration::ZERO, ..Config::default() }).await
}

async fn joined(bench: &Bench, name: &str, gpus: u32) -> AgentId {
    let agent = identity(name);
    bench.jobs.hello(agent.clone(), inventory(64, (0..gpus).map(gpu).collect())).await.expect("stored");
    agent.id
}

fn seat(bench: &Bench, agent: AgentId) -> Option<JobId> {
    bench.jobs.inner.shared.reserved.of(agent).map(|seated| seated.job)
}

async fn grants(bench: &Bench, agent: AgentId, gpus: &[u32], slots: u32) -> Vec<Grant> {
    bench.claim(agent, free(gpus, slots)).await.grants
}

/// Two jobs of one GPU each run on the agent, and a job of all its GPUs was passed over by the second.
async fn passed_over(bench: &Bench, agent: AgentId, gpus: u32, of: &str) -> (Vec<Grant>, JobId) {
    many(bench, "default", with_gpus(1, 600), 1).await;
    let all: Vec<u32> = (0..gpus).collect();
    let mut running = grants(bench, agent, &all, 1).await;
    let large = many(bench, of, with_gpus(gpus, 60), 1).await[0];
    many(bench, "default", with_gpus(1, LONG), 1).await;
    running.extend(grants(bench, agent, &all[1..], 1).await);
    assert_eq!(running.len(), 2);
    (running, large)
}

async fn ends(bench: &Bench, grant: &Grant) {
    bench.finish(report(grant.attempt, Outcome::Succeeded)).await.expect("taken");
}

fn told(bench: &Bench, agent: AgentId, gpus: Vec<Gpu>, note: &str) {
    let idle = gpus.iter().filter(|gpu| gpu.job.is_none() && gpu.busy.is_none()).count();
    let free = Capacity { gpus: u32::try_from(idle).expect("few"), ..offer(16, 1).free };
    let report = AgentReport { free, gpus, note: note.into(), ..AgentReport::default() };
    bench.jobs.agent_report(agent, report);
}

async fn why(bench: &Bench, job: JobId) -> (String, Option<Timestamp>) {
    let told = bench.jobs.explain(job).await.expect("there");
    (told.agents[0].reason.clone(), told.agents[0].until)
}

fn leaving(index: u32) -> Gpu {
    let busy = Some("k3m9q2xw has just given it back".into());
    Gpu { busy, keeper: Some(Keeper::Leaving), ..gpu(index) }
}

fn cordon() -> Cordon {
    Cordon { note: String::new(), author: "anna".into(), at: Timestamp::now(), until: None, drain: None }
}

/// It was, with each end: the GPU is nobody's for a reading, and one that is short of a GPU seemed hopeless.
#[tokio::test]
async fn a_seat_outlives_the_moment_between_a_jobs_end_and_its_gpus_return() {
    let bench = impatient().await;
    let agent = joined(&bench, "a", 4).await;
    let (running, large) = passed_over(&bench, agent, 4, "default").await;
    assert_eq!(seat(&bench, agent), Some(large));
    many(&bench, "default", with_gpus(1, LONG), 3).await;
    ends(&bench, &running[0]).await;
    for seen in [leaving(0), Gpu { job: Some("k3m9q2xw".into()), ..gpu(0) }, gpu(0)] {
        told(&bench, agent, vec![seen, gpu(1), gpu(2), gpu(3)], "");
        assert_eq!(grants(&bench, agent, &[2, 3], 2).await.len(), 0, "GPU 0 is on its way back");
        assert_eq!(seat(&bench, agent), Some(large));
    }
    assert_eq!(grants(&bench, agent, &[0, 2, 3], 3).await.len(), 0, "one is still short");
    ends(&bench, &running[1]).await;
    assert_eq!(grants(&bench, agent, &[0, 1, 2, 3], 3).await[0].attempt.job, large);
    assert_eq!(seat(&bench, agent), None);
}

/// Whoever sits on a GPU may leave; after a while the others are not kept waiting for that.
#[tokio::test]
async fn a_seat_is_kept_for_a_while_when_nobody_knows_when_it_can_be_taken() {
    let bench = impatient().await;
    let agent = joined(&bench, "a", 4).await;
    let (running, large) = passed_over(&bench, agent, 4, "default").await;
    let small = many(&bench, "default", with_gpus(1, LONG), 1).await;
    ends(&bench, &running[0]).await;
    let stranger = Gpu { busy: Some("python of anna".into()), keeper: Some(Keeper::Stranger), ..gpu(0) };
    told(&bench, agent, vec![stranger, gpu(1), gpu(2), gpu(3)], "");
    assert_eq!(grants(&bench, agent, &[2, 3], 2).await.len(), 0);
    assert_eq!(seat(&bench, agent), Some(large));
    let reserved = &bench.jobs.inner.shared.reserved;
    let (now, later) = (Timestamp::now(), Timestamp::now().plus(Duration::from_secs(21)));
    assert!(reserved.stays(large, false, now) && !reserved.stays(large, false, later));
    assert!(reserved.stays(large, true, later), "it is known again");
    assert_eq!(why(&bench, small[0]).await.1, None, "nobody knows");
}

/// A GPU that is too warm was the reason for every job, and no machine was ever kept beside such a note.
#[tokio::test]
async fn a_note_of_an_agent_closes_nothing() {
    let bench = impatient().await;
    let agent = joined(&bench, "a", 4).await;
    let note = "GPU 3 is slowed down: thermal";
    let slow = || (0..4).map(gpu).collect::<Vec<_>>();
    told(&bench, agent, slow(), note);
    let asked = bench.jobs.explain_new("default", &with_gpus(4, 60)).await.expect("answered");
    assert_eq!(asked.agents[0].reason, "has room; it would take the job at once");
    let (_, large) = passed_over(&bench, agent, 4, "default").await;
    assert_eq!(seat(&bench, agent), Some(large));
    let view = bench.jobs.agent("a").expect("joined");
    assert_eq!((view.note.as_str(), view.closed.as_str()), (note, ""));
    let closed = AgentReport { closed: "docker does not answer".into(), ..AgentReport::default() };
    bench.jobs.agent_report(agent, closed);
    let asked = bench.jobs.explain_new("default", &spec()).await.expect("answered");
    assert_eq!(asked.agents[0].reason, "docker does not answer");
}

#[tokio::test]
async fn nothing_is_kept_for_jobs_that_may_not_start() {
    let bench = impatient().await;
    project(&bench, "lab", 1).await;
    let agent = joined(&bench, "a", 4).await;
    let (_, large) = passed_over(&bench, agent, 4, "lab").await;
    assert_eq!(seat(&bench, agent), Some(large));
    let pause = Pause { note: String::new(), author: "anna".into(), at: Timestamp::now() };
    bench.jobs.pause(Some("lab"), pause).await.expect("stored");
    let small = many(&bench, "default", with_gpus(1, LONG), 1).await;
    told(&bench, agent, (0..4).map(gpu).collect(), "");
    assert_eq!(why(&bench, small[0]).await.0, "has room; it takes the job with its next claim");
    assert_eq!(grants(&bench, agent, &[2, 3], 1).await.len(), 1, "of a paused project");
    assert_eq!(seat(&bench, agent), None);
}

#[tokio::test]
async fn nothing_is_kept_for_jobs_over_their_projects_quota() {
    let bench = impatient().await;
    project(&bench, "lab", 1).await;
    let agent = joined(&bench, "a", 4).await;
    let (_, large) = passed_over(&bench, agent, 4, "lab").await;
    assert_eq!(seat(&bench, agent), Some(large));
    let quotas = Quotas { gpus: Some(2), ..Quotas::default() };
    let lab = Project { settings: Settings { quotas, ..Settings::default() }, ..Project::new("lab") };
    bench.jobs.put_project(lab).await.expect("stored");
    many(&bench, "default", with_gpus(1, LONG), 1).await;
    assert_eq!(grants(&bench, agent, &[2, 3], 1).await.len(), 1);
    assert_eq!(seat(&bench, agent), None);
}

#[tokio::test]
async fn a_machine_that_is_cordoned_is_kept_for_nobody_and_another_one_is() {
    let bench = impatient().await;
    let (a, b) = (joined(&bench, "a", 2).await, joined(&bench, "b", 2).await);
    many(&bench, "default", with_gpus(1, 10), 1).await;
    assert_eq!(grants(&bench, a, &[0, 1], 1).await.len(), 1);
    many(&bench, "default", with_gpus(1, 600), 1).await;
    assert_eq!(grants(&bench, b, &[0, 1], 1).await.len(), 1);
    let large = bench.submit(with_gpus(2, 60)).await.id;
    many(&bench, "default", with_gpus(1, 20), 1).await;
    assert_eq!(grants(&bench, b, &[1], 1).await.len(), 1);
    assert_eq!((seat(&bench, a), seat(&bench, b)), (Some(large), None));
    bench.jobs.cordon(&bench.jobs.agent("a").expect("there"), None, cordon()).await.expect("stored");
    assert_eq!(seat(&bench, a), None);
    let other = joined(&bench, "c", 2).await;
    many(&bench, "default", with_gpus(1, 20), 3).await;
    assert_eq!(grants(&bench, other, &[1], 1).await.len(), 1);
    assert_eq!(seat(&bench, other), Some(large), "the one that is free for it soonest");
}

#[tokio::test]
async fn a_machine_whose_agent_was_told_to_stop_is_kept_for_nobody() {
    let bench = impatient().await;
    let agent = joined(&bench, "a", 4).await;
    let (_, large) = passed_over(&bench, agent, 4, "default").await;
    assert_eq!(seat(&bench, agent), Some(large));
    let leaving = Some(Cordon::leaving(Timestamp::now(), Duration::from_secs(600)));
    bench.jobs.agent_report(agent, AgentReport { leaving, ..AgentReport::default() });
    assert_eq!(seat(&bench, agent), None);
}

#[tokio::test]
async fn seats_end_with_their_jobs_and_with_their_machines() {
    let bench = impatient().await;
    let agent = joined(&bench, "a", 4).await;
    let (running, large) = passed_over(&bench, agent, 4, "default").await;
    assert_eq!(seat(&bench, agent), Some(large));
    bench.jobs.cancel(vec![large], "anna", "").await.expect("stored");
    assert_eq!(seat(&bench, agent), None, "no claim had to come");
    for grant in &running {
        ends(&bench, grant).await;
    }
    let (_, large) = passed_over(&bench, agent, 4, "default").await;
    assert_eq!(seat(&bench, agent), Some(large));
    bench.jobs.remove_agent(agent, "anna").await.expect("removed");
    assert_eq!(seat(&bench, agent), None);
}

/// A GPU that is in use and set aside for good did not come back, and three others waited for it.
#[tokio::test]
async fn no_machine_is_kept_whose_gpu_is_cordoned_while_a_job_has_it() {
    let bench = impatient().await;
    let agent = joined(&bench, "a", 4).await;
    let view = bench.jobs.agent("a").expect("there");
    bench.jobs.cordon(&view, Some(&gpu(0)), cordon()).await.expect("stored");
    bench.jobs.uncordon(&view, Some(&gpu(0)), "anna").await.expect("stored");
    let (_, large) = passed_over(&bench, agent, 4, "default").await;
    assert_eq!(seat(&bench, agent), Some(large));
    bench.jobs.cordon(&view, Some(&gpu(0)), cordon()).await.expect("stored");
    told(&bench, agent, (0..4).map(gpu).collect(), "");
    assert_eq!(why(&bench, large).await.1, None, "it never begins there");
    bench.jobs.cancel(vec![large], "anna", "").await.expect("stored");
    let again = bench.submit(with_gpus(4, 60)).await.id;
    many(&bench, "default", with_gpus(1, LONG), 1).await;
    assert_eq!(grants(&bench, agent, &[2, 3], 1).await.len(), 1);
    assert_eq!(
        (seat(&bench, agent), bench.jobs.get(again).await.expect("there").state),
        (None, JobState::Queued)
    );
}

#[tokio::test]
async fn lists_and_explain_say_what_the_claim_does() {
    let bench = impatient().await;
    let agent = joined(&bench, "a", 4).await;
    let (_, large) = passed_over(&bench, agent, 4, "default").await;
    let small = many(&bench, "default", with_gpus(1, LONG), 1).await[0];
    told(&bench, agent, (0..4).map(gpu).collect(), "");
    let said = why(&bench, small).await;
    assert!(said.0.starts_with("is kept for a job") && said.1.is_none(), "{said:?}");
    let view = bench.jobs.get(small).await.expect("there");
    let listed =
        async |view: &JobView| bench.jobs.waits(std::slice::from_ref(view)).await.expect("read").remove(0);
    assert!(listed(&view).await.starts_with("a: is kept for a job"), "{}", listed(&view).await);
    assert_eq!(grants(&bench, agent, &[2, 3], 1).await.len(), 0);
    bench.jobs.cancel(vec![large], "anna", "").await.expect("stored");
    let full = AgentReport {
        slots: Some(0),
        free: offer(16, 1).free,
        gpus: (0..4).map(gpu).collect(),
        ..AgentReport::default()
    };
    bench.jobs.agent_report(agent, full);
    assert_eq!(why(&bench, small).await.0, "takes no more jobs at once");
    assert_eq!(listed(&view).await, "a: takes no more jobs at once");
    told(&bench, agent, Vec::new(), "the GPUs fell off the bus");
    assert_eq!(why(&bench, small).await.0, "needs 1 GPU, has 0");
    assert!(bench.jobs.agent("a").expect("there").inventory.gpus.is_empty());
}

/// The agent gave up its claim, and asked again with what had been granted to it.
#[tokio::test]
async fn a_gpu_whose_grant_the_agent_may_not_know_of_is_not_granted_again() {
    let bench = Bench::new().await;
    let agent = joined(&bench, "a", 2).await;
    many(&bench, "default", with_gpus(1, 60), 3).await;
    let first = grants(&bench, agent, &[0, 1], 1).await;
    let again = grants(&bench, agent, &[0, 1], 2).await;
    let got: Vec<_> = first.iter().chain(&again).flat_map(|grant| grant.gpus.clone()).collect();
    assert_eq!(got, ["GPU-0", "GPU-1"]);
    let lists = |grant: &Grant| held(grant.attempt, JobState::Running);
    bench.jobs.heartbeat(agent, vec![lists(&first[0]), lists(&again[0])]).await.expect("stored");
    ends(&bench, &first[0]).await;
    assert_eq!(grants(&bench, agent, &[0], 1).await[0].gpus, ["GPU-0"]);
}
