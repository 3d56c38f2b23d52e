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
async fn what_an_earlier_process_left_is_handed_back() {
    let dir = tempfile::tempdir().unwrap();
    let left = grant(job(&[("FAKE_RUN", "forever")]));
    let folder = dir.path().join("journal");
    Journal::open(&folder).unwrap().intend(&left).await.unwrap();
    let rig = Rig::start_in(dir).await;
    let report = rig.controller.report(left.attempt).await;
    assert_eq!(report.outcome, Outcome::AgentShutdown);
    rig.running.held.empty().await;
    assert_eq!(Journal::open(&folder).unwrap().read().unwrap(), []);
    rig.stop().await;
}
