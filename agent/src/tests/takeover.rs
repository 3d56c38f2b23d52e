//! What an agent process goes on with that its predecessor left.

use super::{
    ends::text,
    rig::{Away, BOOT, Rig, grant, job},
};
use crate::{OnShutdown, attempt::Cause, journal::Intent, runtime::Runtime as _};
use longshore_common::{
    agent::Grant,
    clock::Timestamp,
    ids::{AttemptRef, ClusterId},
    job::{JobSpec, JobState, Outcome},
    logs::Stream,
    process::{Process, WallClock},
};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::time::Instant;

fn intent(boot_id: &str, grant: &Grant) -> Intent {
    Intent::of(ClusterId::from_uuid(uuid::Uuid::nil()), boot_id, grant)
}

/// An agent that has left while the container of this job runs.
pub(super) async fn left(spec: JobSpec) -> (Away, AttemptRef) {
    let rig = Rig::start_as(tempfile::tempdir().unwrap(), OnShutdown::Leave).await;
    let attempt = rig.submit(spec);
    rig.phase(attempt, JobState::Running).await;
    let controller = std::sync::Arc::clone(&rig.controller);
    controller.until(|fake| (!fake.log(&attempt).is_empty()).then_some(())).await;
    let away = rig.leave().await;
    assert_eq!(controller.finished(), [], "nothing was given back");
    (away, attempt)
}

#[tokio::test(start_paused = true)]
async fn a_container_runs_on_while_the_agent_is_exchanged() {
    let spec = job(&[("FAKE_RUN", "60s"), ("FAKE_STDOUT", "one\ntwo\n"), ("FAKE_STDERR", "three\n")]);
    let (away, attempt) = left(spec).await;
    let rig = away.again().await;
    rig.phase(attempt, JobState::Running).await;
    let report = rig.controller.report(attempt).await;
    assert_eq!(report.outcome, Outcome::Succeeded);
    assert_eq!(text(&rig, &attempt, Stream::Stdout), "one\ntwo\n");
    assert_eq!(text(&rig, &attempt, Stream::Stderr), "three\n");
    assert_eq!(report.log_end, rig.controller.log(&attempt).len() as u64);
    rig.running.held.empty().await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_ended_while_no_agent_ran_is_still_the_same_attempt() {
    let spec = job(&[
        ("FAKE_RUN", "5s"),
        ("FAKE_EXIT", "3"),
        ("FAKE_STDOUT", "last words"),
        ("FAKE_FILES", "a.txt:11"),
    ]);
    let (away, attempt) = left(spec).await;
    away.controller.store_at(super::rig::store(true).await);
    tokio::time::sleep(Duration::from_secs(30)).await;
    let rig = away.again().await;
    let report = rig.controller.report(attempt).await;
    assert_eq!((report.outcome, report.artifact_count), (Outcome::ExitCode(3), 1));
    assert_eq!(text(&rig, &attempt, Stream::Stdout), "last words");
    rig.running.held.empty().await;
    assert_eq!(rig.controller.finished().len(), 1);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_had_no_container_yet_begins_anew() {
    let rig = Rig::start_as(tempfile::tempdir().unwrap(), OnShutdown::Leave).await;
    let away = rig.leave().await;
    let waiting = grant(job(&[("FAKE_RUN", "1s")]));
    away.journal().intend(intent(BOOT, &waiting)).await.unwrap();
    let rig = away.again().await;
    assert_eq!(rig.controller.report(waiting.attempt).await.outcome, Outcome::Succeeded);
    rig.running.held.empty().await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_machine_took_along_is_lost() {
    let rig = Rig::start_as(tempfile::tempdir().unwrap(), OnShutdown::Leave).await;
    let away = rig.leave().await;
    let taken = grant(job(&[]));
    away.journal().intend(intent("an earlier boot", &taken)).await.unwrap();
    let rig = away.again().await;
    let report = rig.controller.report(taken.attempt).await;
    assert_eq!(report.outcome, Outcome::AgentLost);
    rig.running.held.empty().await;
    assert_eq!(rig.leave().await.journal().read().unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn what_the_machine_took_along_is_not_told_before_the_controller_knows_of_the_new_start() {
    let rig = Rig::start_as(tempfile::tempdir().unwrap(), OnShutdown::Leave).await;
    let away = rig.leave().await;
    let taken = grant(job(&[]));
    away.journal().intend(intent("an earlier boot", &taken)).await.unwrap();
    let rig = away.again_without_a_link().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.controller.finished(), [], "it would be a loss like any other");
    rig.controller.connect();
    assert_eq!(rig.controller.report(taken.attempt).await.outcome, Outcome::AgentLost);
    rig.running.held.empty().await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_machine_took_along_is_lost_although_the_engine_does_not_come_up() {
    let rig = Rig::start_as(tempfile::tempdir().unwrap(), OnShutdown::Leave).await;
    let away = rig.leave().await;
    let taken = grant(job(&[]));
    away.journal().intend(intent("an earlier boot", &taken)).await.unwrap();
    away.engine.away(true);
    let rig = away.again().await;
    assert_eq!(rig.controller.report(taken.attempt).await.outcome, Outcome::AgentLost);
    rig.engine.away(false);
    rig.running.held.empty().await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_answers_with_an_error_at_first_does_not_make_a_container_forgotten() {
    let (away, attempt) = left(job(&[("FAKE_RUN", "60s"), ("FAKE_STDOUT", "once\n")])).await;
    away.engine.confused.store(true, std::sync::atomic::Ordering::SeqCst);
    let rig = away.again().await;
    assert_eq!(rig.controller.report(attempt).await.outcome, Outcome::Succeeded);
    assert_eq!(text(&rig, &attempt, Stream::Stdout), "once\n");
    rig.running.held.empty().await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_had_begun_keeps_its_reason() {
    let (away, attempt) = left(job(&[("FAKE_RUN", "forever"), ("FAKE_STDOUT", "x")])).await;
    let stopping = Some(Cause::RunDeadline(Duration::from_secs(9)));
    let begun = away.journal().read().unwrap().remove(0);
    away.journal().note(Intent { stopping, ..begun }).await;
    let rig = away.again().await;
    let report = rig.controller.report(attempt).await;
    assert_eq!(report.outcome, Outcome::RunTimeout, "not exit_code(143)");
    rig.running.held.empty().await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_had_begun_goes_on_while_the_controller_is_away() {
    let (away, attempt) =
        left(job(&[("FAKE_RUN", "forever"), ("FAKE_IGNORE_TERM", "1"), ("FAKE_STDOUT", "x")])).await;
    let stopping = Some(Cause::LeaseLost(Duration::from_secs(9)));
    let begun = away.journal().read().unwrap().remove(0);
    away.journal().note(Intent { stopping, ..begun }).await;
    away.controller.unreachable(true);
    let rig = away.again().await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    let known = rig.engine.inner.list().await.unwrap();
    assert!(known.iter().all(|known| !known.running), "another agent may run the job by now");
    rig.controller.unreachable(false);
    assert_eq!(rig.controller.report(attempt).await.outcome, Outcome::AgentLost);
    rig.running.held.empty().await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_fenced_attempt_is_not_taken_over_and_its_container_goes() {
    let (away, attempt) = left(job(&[("FAKE_RUN", "forever"), ("FAKE_STDOUT", "x")])).await;
    away.controller.fence(attempt);
    let rig = away.again().await;
    rig.running.held.empty().await;
    assert_eq!(rig.controller.finished(), []);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn files_that_could_not_be_stored_outlive_an_agent_that_died_with_the_answer_to_its_report() {
    let job = job(&[("FAKE_RUN", "5s"), ("FAKE_FILES", "a.txt:11"), ("FAKE_STDOUT", "x")]);
    for boot in [BOOT, "an earlier boot"] {
        let (away, attempt) = left(job.clone()).await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        let begun = away.journal().read().unwrap().remove(0);
        away.journal().note(Intent { unstored: true, boot_id: boot.to_owned(), ..begun }).await;
        away.controller.fence(attempt);
        let rig = away.again().await;
        rig.running.held.empty().await;
        let known = rig.engine.inner.list().await.unwrap().remove(0);
        assert!(known.folder.unwrap().join("disk/out/a.txt").exists());
        let entries = rig.leave().await.journal().read().unwrap();
        assert!(entries[0].kept.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_nobody_renews_ends_the_container() {
    let rig = Rig::start().await;
    let mut grant = grant(job(&[("FAKE_RUN", "forever")]));
    grant.lease = Duration::from_secs(60);
    let attempt = grant.attempt;
    rig.controller.submit(grant);
    let began = tokio::time::Instant::now();
    let report = rig.controller.report(attempt).await;
    assert_eq!(report.outcome, Outcome::AgentLost);
    let after = began.elapsed();
    assert!((Duration::from_secs(60)..Duration::from_secs(63)).contains(&after), "{after:?}");
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_container_that_cannot_be_killed_has_stays_reserved_by_the_next_process() {
    let rig = Rig::start_as(tempfile::tempdir().unwrap(), OnShutdown::Leave).await;
    let before = rig.reporter.report().free.cpu_millis;
    let mut spec = job(&[("FAKE_RUN", "forever"), ("FAKE_STUCK", "1200s")]);
    spec.deadlines.run = Duration::from_secs(5);
    let attempt = rig.submit(spec);
    assert_eq!(rig.controller.report(attempt).await.outcome, Outcome::RuntimeError);
    let away = rig.leave().await;
    // It was reported, and another attempt has the job by now.
    away.controller.fence(attempt);
    let rig = away.again().await;
    assert!(rig.reporter.report().free.cpu_millis < before, "from the first moment on");
    tokio::time::sleep(Duration::from_secs(120)).await;
    let report = rig.reporter.report();
    assert!(report.free.cpu_millis < before && report.note.contains("not gone"), "{report:?}");
    tokio::time::sleep(Duration::from_secs(1200)).await;
    assert_eq!((rig.reporter.report().note, rig.reporter.report().free.cpu_millis), (String::new(), before));
    assert_eq!(rig.controller.finished().len(), 1);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_run_deadline_ends_a_container_that_was_taken_over_while_the_controller_is_away() {
    let mut spec = job(&[("FAKE_RUN", "forever"), ("FAKE_STDOUT", "x")]);
    spec.deadlines.run = Duration::from_secs(60);
    let (away, attempt) = left(spec).await;
    away.controller.unreachable(true);
    let rig = away.again().await;
    tokio::time::sleep(Duration::from_secs(90)).await;
    let known = rig.engine.inner.list().await.unwrap();
    assert!(known.iter().all(|known| !known.running), "{known:?}");
    rig.controller.unreachable(false);
    assert_eq!(rig.controller.report(attempt).await.outcome, Outcome::RunTimeout);
    rig.running.held.empty().await;
    rig.stop().await;
}

/// What `work` does on a machine whose clock is set by ten minutes, either way, whenever it rings.
async fn on_a_machine_whose_clock_is_set<F: Future>(work: impl Fn(Box<dyn Fn()>) -> F) {
    for ahead in [true, false] {
        let clock = Arc::new(WallClock::new(Timestamp::from_micros(1_000_000_000_000_000)));
        let set = Arc::clone(&clock);
        let step = Duration::from_secs(600);
        let set = Box::new(move || if ahead { set.set_ahead(step) } else { set.set_behind(step) });
        Box::pin(Process::new(clock).within(work(set))).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_of_the_clock_while_no_agent_ran_moves_no_run_deadline() {
    on_a_machine_whose_clock_is_set(|set| async move {
        let mut spec = job(&[("FAKE_RUN", "forever"), ("FAKE_STDOUT", "x")]);
        spec.deadlines.run = Duration::from_secs(60);
        let began = Instant::now();
        let (away, attempt) = left(spec).await;
        set();
        tokio::time::sleep(Duration::from_secs(20)).await;
        let rig = away.again().await;
        assert_eq!(rig.controller.report(attempt).await.outcome, Outcome::RunTimeout);
        let ran = began.elapsed().as_secs();
        assert!((60..65).contains(&ran), "{ran} s");
        rig.running.held.empty().await;
        rig.stop().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_step_of_the_clock_does_not_make_what_the_engine_took_along_the_jobs_own_timeout() {
    on_a_machine_whose_clock_is_set(|set| async move {
        let mut spec = job(&[("FAKE_RUN", "30s"), ("FAKE_ENGINE_RESTART", "1"), ("FAKE_STDOUT", "x")]);
        spec.deadlines.run = Duration::from_secs(60);
        let (away, attempt) = left(spec).await;
        set();
        let stopping = Some(Cause::RunDeadline(Duration::from_secs(60)));
        let begun = away.journal().read().unwrap().remove(0);
        assert!(begun.started.is_some());
        away.journal().note(Intent { stopping, ..begun }).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        let rig = away.again().await;
        assert_eq!(rig.controller.report(attempt).await.outcome, Outcome::EngineRestart);
        rig.running.held.empty().await;
        rig.stop().await;
    })
    .await;
}
