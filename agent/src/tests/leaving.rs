//! What happens when the agent's process ends.

use super::rig::{Rig, grant, job, store, store_when};
use crate::{journal::Journal, link::Event};
use longshore_common::{
    agent::StopReason,
    job::{JobState, Outcome},
    tasks,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

#[tokio::test(start_paused = true)]
async fn short_jobs_end_by_themselves_and_long_ones_go_back() {
    let rig = Rig::start().await;
    let short = rig.submit(job(&[("FAKE_RUN", "5s")]));
    let long = rig.submit(job(&[("FAKE_RUN", "forever"), ("FAKE_IGNORE_TERM", "1")]));
    for attempt in [short, long] {
        rig.phase(attempt, JobState::Running).await;
    }
    let controller = Arc::clone(&rig.controller);
    let began = tokio::time::Instant::now();
    rig.stop().await;
    assert!(began.elapsed() <= Duration::from_secs(16), "{:?}", began.elapsed());
    assert_eq!(controller.report(short).await.outcome, Outcome::Succeeded);
    assert_eq!(controller.report(long).await.outcome, Outcome::AgentShutdown);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_ends_while_a_stopping_agent_waits_ends_the_job_then() {
    let rig = Rig::start().await;
    let mut granted = grant(job(&[("FAKE_RUN", "forever")]));
    granted.lease = Duration::from_secs(4);
    let (attempt, began) = (granted.attempt, tokio::time::Instant::now());
    rig.controller.submit(granted);
    rig.phase(attempt, JobState::Running).await;
    let controller = Arc::clone(&rig.controller);
    rig.stop().await;
    assert_eq!(controller.report(attempt).await.outcome, Outcome::AgentLost);
    assert!(began.elapsed() < Duration::from_secs(8), "the grace is 10 s: {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn files_that_could_not_be_stored_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().to_owned();
    let rig = Rig::start_in(dir).await;
    // Nobody listens there.
    rig.controller.store_at("http://127.0.0.1:9/".to_owned());
    let mut spec = job(&[("FAKE_FILES", "a.txt:11")]);
    spec.deadlines.upload = Duration::from_secs(60);
    let attempt = rig.submit(spec);
    assert_eq!(rig.controller.report(attempt).await.outcome, Outcome::ArtifactUploadFailed);
    rig.running.held.empty().await;
    let controller = Arc::clone(&rig.controller);
    rig.running.stop().await;
    assert_eq!(controller.manifest(), []);
    let kept = Journal::open(&home.join("journal")).unwrap().read().unwrap();
    assert!(kept.len() == 1 && kept[0].kept.is_some(), "{kept:?}");
    let folder = home.join("attempts").join(format!("{}.1", kept[0].short_id));
    assert_eq!(std::fs::read(folder.join("disk/out/a.txt")).unwrap().len(), 11);
}

/// Its container has ended well: only its files are not away.
#[tokio::test]
async fn a_job_whose_files_are_going_up_at_a_drains_deadline_is_not_run_again() {
    let rig = Rig::start().await;
    let open = watch::Sender::new(false);
    rig.controller.store_at(store_when(open.subscribe()).await);
    let done = rig.submit(job(&[("FAKE_FILES", "a.txt:11")]));
    rig.phase(done, JobState::Collecting).await;
    let mut spec = job(&[("FAKE_RUN", "forever")]);
    spec.deadlines.stop_grace = Duration::ZERO;
    let running = rig.submit(spec);
    rig.phase(running, JobState::Running).await;
    for attempt in [done, running] {
        let reason = StopReason::HandBack("the machine is draining".to_owned());
        rig.controller.say(Event::Stop { attempt, reason });
    }
    // The word came in order: the first has heard it too.
    assert_eq!(rig.controller.report(running).await.outcome, Outcome::AgentShutdown);
    assert!(rig.running.held.list().iter().any(|held| held.attempt == done), "it was given up");
    open.send_replace(true);
    let report = rig.controller.report(done).await;
    assert_eq!((report.outcome, report.artifact_count), (Outcome::Succeeded, 1));
    rig.stop().await;
}

#[tokio::test]
async fn files_that_are_not_stored_when_a_draining_agent_must_go_are_stored_by_its_next_process() {
    let rig = Rig::start().await;
    rig.controller.store_at(store(false).await);
    let attempt = rig.submit(job(&[("FAKE_FILES", "a.txt:11")]));
    rig.phase(attempt, JobState::Collecting).await;
    // The grace, and what uploads get, go by.
    tokio::time::pause();
    let away = rig.leave().await;
    tokio::time::resume();
    assert_eq!(away.controller.finished(), [], "it is neither stored nor to be run again");
    away.controller.store_at(store(true).await);
    let rig = away.again().await;
    let report = rig.controller.report(attempt).await;
    assert_eq!((report.outcome, report.artifact_count), (Outcome::Succeeded, 1));
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_drains_says_until_when_what_runs_may_go_on() {
    let rig = Rig::start().await;
    let attempt = rig.submit(job(&[("FAKE_RUN", "5s")]));
    rig.phase(attempt, JobState::Running).await;
    assert_eq!(rig.reporter.report().leaving, None);
    let (reporter, stopping) = (Arc::clone(&rig.reporter), tasks::spawn("stop", rig.stop()));
    let left = loop {
        reporter.changed().await;
        if let Some(left) = reporter.report().leaving {
            break left;
        }
    };
    assert!(left > Duration::from_secs(9) && left <= Duration::from_secs(10), "{left:?}");
    stopping.await.expect("it ends");
}
