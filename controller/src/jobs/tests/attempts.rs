//! What agents say of their attempts, and what time does to them.

use super::*;
use crate::lifecycle::Refusal;
use longshore_common::{agent::StopReason, clock::Timestamp};

/// What reconcilers wait for, without waiting: everything held is silent for longer than no lease at all.
pub(super) fn impatient() -> Config {
    Config { disconnect_tolerance: Duration::ZERO, ..Config::default() }
}

#[tokio::test]
async fn a_cancel_reaches_the_agent_by_nudge_and_by_heartbeat_until_it_reports() {
    let bench = Bench::new().await;
    let (agent, grant) = bench.held(spec()).await;
    let mut stops = bench.jobs.nudges().stops();
    let views = bench.jobs.cancel(vec![grant.attempt.job], "anna", "wrong data").await.expect("stored");
    assert!(views[0].cancel_requested && views[0].state == JobState::Claimed);
    let stop = stops.recv().await.expect("a nudge");
    assert_eq!((stop.agent, stop.attempt), (agent, grant.attempt));
    for _ in 0..2 {
        let answer =
            bench.jobs.heartbeat(agent, vec![held(grant.attempt, JobState::Claimed)]).await.expect("ok");
        let reason = StopReason::Cancel("cancelled by anna: wrong data".into());
        assert_eq!(answer.stops, [(grant.attempt, reason)]);
    }
    bench.finish(report(grant.attempt, Outcome::Cancelled)).await.expect("taken");
    let job = bench.jobs.get(grant.attempt.job).await.expect("there");
    assert_eq!(job.ending.expect("ended").detail, "cancelled by anna: wrong data");
}

#[tokio::test]
async fn a_finish_is_idempotent_and_a_stale_token_is_fenced() {
    let bench = Bench::new().await;
    let (agent, grant) = bench.held(spec()).await;
    bench.finish(report(grant.attempt, Outcome::RuntimeError)).await.expect("taken");
    assert_eq!(bench.state(&grant).await, JobState::Waiting);
    bench.finish(report(grant.attempt, Outcome::RuntimeError)).await.expect("a repeat is taken");
    let stale = AttemptRef { epoch: Epoch(7), ..grant.attempt };
    assert_eq!(bench.finish(report(stale, Outcome::Succeeded)).await, Err(Refusal::Fenced));
    assert_eq!(bench.jobs.check_attempt(grant.attempt), Err(Refusal::Fenced));
    let answer = bench.jobs.heartbeat(agent, vec![held(grant.attempt, JobState::Running)]).await.expect("ok");
    assert!(answer.fenced.is_empty(), "its finish was taken: nothing to revoke");
    let answer = bench.jobs.heartbeat(agent, vec![held(stale, JobState::Running)]).await.expect("ok");
    assert_eq!(answer.fenced, [stale]);
}

#[tokio::test]
async fn another_agents_attempt_is_not_renewed() {
    let bench = Bench::new().await;
    let (_, grant) = bench.held(spec()).await;
    let answer = bench.jobs.heartbeat(AgentId::new(), vec![held(grant.attempt, JobState::Running)]).await;
    assert_eq!(answer.expect("ok").fenced, [grant.attempt]);
}

#[tokio::test]
async fn a_silent_agent_loses_its_attempt_and_a_late_finish_still_counts() {
    let bench = Bench::new().await;
    let (agent, grant) = bench.held(spec()).await;
    let bench = bench.reopen(impatient()).await;
    assert_eq!(bench.jobs.expire_leases(Duration::ZERO).await.expect("stored"), 1);
    assert_eq!(bench.state(&grant).await, JobState::Waiting);
    let answer = bench.jobs.heartbeat(agent, vec![held(grant.attempt, JobState::Running)]).await.expect("ok");
    assert!(answer.fenced.is_empty(), "expired is not fenced");
    assert_eq!(answer.expired, [grant.attempt], "nor renewed: the agent stops it when its lease is over");
    assert!(bench.jobs.check_attempt(grant.attempt).is_ok(), "its log and files are still taken");
    bench.finish(report(grant.attempt, Outcome::Succeeded)).await.expect("taken");
    assert_eq!(bench.state(&grant).await, JobState::Succeeded);
    let attempt = bench.jobs.attempts(grant.attempt.job).await.expect("there").remove(0);
    assert_eq!(attempt.ending.expect("ended").outcome, Outcome::Succeeded);
}

#[tokio::test]
async fn a_late_hand_back_is_taken_and_leaves_the_job_where_it_is() {
    let bench = Bench::new().await;
    let (_, grant) = bench.held(spec()).await;
    let bench = bench.reopen(impatient()).await;
    bench.jobs.expire_leases(Duration::ZERO).await.expect("stored");
    let state = bench.state(&grant).await;
    for _ in 0..2 {
        bench.finish(report(grant.attempt, Outcome::AgentShutdown)).await.expect("taken");
    }
    assert_eq!(bench.state(&grant).await, state);
    let attempt = bench.jobs.attempts(grant.attempt.job).await.expect("there").remove(0);
    assert_eq!(attempt.ending.expect("ended").outcome, Outcome::AgentShutdown);
}

#[tokio::test]
async fn a_new_attempt_fences_the_old_one() {
    let mut quick = spec();
    quick.retry.backoff = Duration::ZERO;
    let bench = Bench::new().await;
    let (agent, old) = bench.held(quick).await;
    let bench = bench.reopen(impatient()).await;
    bench.jobs.expire_leases(Duration::ZERO).await.expect("stored");
    let new = bench.claim(AgentId::new(), offer(16, 1)).await.grants.remove(0);
    assert_eq!((new.attempt.job, new.attempt.number), (old.attempt.job, 2));
    assert_eq!(bench.finish(report(old.attempt, Outcome::Succeeded)).await, Err(Refusal::Fenced));
    let answer = bench.jobs.heartbeat(agent, vec![held(old.attempt, JobState::Running)]).await.expect("ok");
    assert_eq!(answer.fenced, [old.attempt]);
    bench.finish(report(new.attempt, Outcome::ExitCode(3))).await.expect("taken");
    assert_eq!(bench.state(&old).await, JobState::Failed);
}

#[tokio::test]
async fn an_agent_that_leaves_gives_back_without_spending_a_retry() {
    let bench = Bench::new().await;
    let (_, grant) = bench.held(spec()).await;
    bench.finish(report(grant.attempt, Outcome::AgentShutdown)).await.expect("taken");
    assert_eq!(bench.state(&grant).await, JobState::Queued);
}

#[tokio::test]
async fn what_was_committed_outlives_the_process() {
    let bench = Bench::new().await;
    let queued = bench.submit(spec()).await;
    let (agent, grant) = bench.held(spec()).await;
    let revision = bench.jobs.revision();
    assert!(bench.jobs.heartbeat(agent, vec![held(grant.attempt, JobState::Running)]).await.is_ok());
    let cluster = bench.jobs.cluster();
    let bench = bench.reopen(Config::default()).await;
    assert_eq!(bench.jobs.cluster(), cluster);
    assert_eq!(bench.jobs.revision(), revision + 1);
    // The oldest was granted.
    assert_eq!(grant.attempt.job, queued.id);
    assert_eq!(bench.state(&grant).await, JobState::Running);
    assert_eq!(bench.jobs.check_attempt(grant.attempt).expect("live").agent, agent);
    assert_eq!(bench.jobs.queued(10).await.expect("counted").into_values().collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn deadlines_and_backoffs_pass() {
    let bench = Bench::new().await;
    let mut hurried = spec();
    hurried.deadlines.queue = Some(Duration::ZERO);
    let late = bench.submit(hurried).await;
    let patient = bench.submit(spec()).await;
    assert_eq!(bench.jobs.pass_queue_deadlines().await.expect("stored"), None);
    let late = bench.jobs.get(late.id).await.expect("there");
    assert_eq!(
        (late.state, late.ending.expect("ended").outcome),
        (JobState::TimedOut, Outcome::QueueTimeout)
    );
    assert_eq!(bench.jobs.get(patient.id).await.expect("there").state, JobState::Queued);

    let grant = bench.claim(AgentId::new(), offer(16, 1)).await.grants.remove(0);
    bench.finish(report(grant.attempt, Outcome::RuntimeError)).await.expect("taken");
    let due = bench.jobs.end_backoffs().await.expect("stored").expect("a backoff of seconds");
    assert!(due > Timestamp::now());
    assert_eq!(bench.state(&grant).await, JobState::Waiting);
}
