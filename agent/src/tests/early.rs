//! An agent that is back before the engine: what it hears of the attempts whose containers it cannot look for yet.

use super::{
    ends::{cancel, text},
    rig::{Rig, job},
    takeover::left,
};
use crate::{link::Event, runtime::Runtime as _};
use longshore_common::{agent::StopReason, ids::AttemptRef, job::Outcome, logs::Stream};
use std::time::Duration;

const FOREVER: [(&str, &str); 2] = [("FAKE_RUN", "forever"), ("FAKE_STDOUT", "x\n")];

/// The agent's next process while the engine is away and this job's container runs.
async fn before_the_engine() -> (Rig, AttemptRef) {
    let (away, attempt) = left(job(&FOREVER)).await;
    away.engine.away(true);
    (away.again().await, attempt)
}

async fn runs(rig: &Rig) -> bool {
    rig.engine.inner.list().await.unwrap().iter().any(|known| known.running)
}

/// It is over and its container is not: that goes, and gives back its share, when the engine is there again.
async fn goes_at_the_engines_return(rig: Rig, free: u32) {
    rig.running.held.empty().await;
    assert!(runs(&rig).await);
    assert!(rig.reporter.report().free.cpu_millis < free, "it may run");
    rig.engine.away(false);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(rig.engine.inner.list().await.unwrap(), []);
    assert_eq!(rig.reporter.report().free.cpu_millis, free);
    assert_eq!(rig.leave().await.journal().read().unwrap(), []);
}

fn all(rig: &Rig) -> u32 {
    rig.reporter.inventory().allocatable.cpu_millis
}

#[tokio::test(start_paused = true)]
async fn a_cancel_waits_a_moment_and_no_longer_for_an_engine_that_is_away_after_a_restart() {
    let (rig, attempt) = before_the_engine().await;
    cancel(&rig, attempt);
    let said = tokio::time::Instant::now();
    let report = rig.controller.report(attempt).await;
    assert_eq!((report.outcome, report.detail.as_str()), (Outcome::Cancelled, "cancelled by anna"));
    assert!(said.elapsed() < Duration::from_secs(5), "{:?}", said.elapsed());
    let free = all(&rig);
    goes_at_the_engines_return(rig, free).await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_ends_before_the_engine_is_back_hands_the_job_back() {
    let (rig, attempt) = before_the_engine().await;
    let report = rig.controller.report(attempt).await;
    assert_eq!(report.outcome, Outcome::AgentLost);
    let free = all(&rig);
    goes_at_the_engines_return(rig, free).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_fenced_before_the_engine_is_back_is_not_held_until_then() {
    let (rig, attempt) = before_the_engine().await;
    rig.controller.say(Event::Stop { attempt, reason: StopReason::Revoke });
    let free = all(&rig);
    rig.running.held.empty().await;
    assert_eq!(rig.controller.finished(), []);
    goes_at_the_engines_return(rig, free).await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_leaves_before_the_engine_is_back_forgets_no_container() {
    let spec = job(&[("FAKE_RUN", "600s"), ("FAKE_STDOUT", "once\n")]);
    let (away, attempt) = left(spec).await;
    away.engine.away(true);
    let away = away.again().await.leave().await;
    away.engine.away(false);
    let rig = away.again().await;
    assert_eq!(rig.controller.report(attempt).await.outcome, Outcome::Succeeded);
    assert_eq!(text(&rig, &attempt, Stream::Stdout), "once\n");
    rig.running.held.empty().await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cancel_just_before_the_engine_is_back_ends_the_container_in_good_order() {
    let (rig, attempt) = before_the_engine().await;
    cancel(&rig, attempt);
    tokio::time::sleep(Duration::from_secs(1)).await;
    rig.engine.away(false);
    let report = rig.controller.report(attempt).await;
    assert_eq!(report.outcome, Outcome::Cancelled);
    assert_eq!(report.log_end, rig.controller.log(&attempt).len() as u64);
    rig.running.held.empty().await;
    rig.stop().await;
}
