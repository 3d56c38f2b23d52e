//! What happens when the agent's process ends.

use super::rig::{Rig, grant, job};
use crate::journal::Journal;
use longshore_common::job::{JobState, Outcome};
use std::{sync::Arc, time::Duration};

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
