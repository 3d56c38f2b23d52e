//! Several agents on one lane.

use longshore_agent::host::fake::FakeHost;
use longshore_proto::v1::JobState;
use longshore_tests::local::{Local, scripted};
use std::{collections::BTreeSet, sync::Arc};

#[tokio::test]
async fn no_job_runs_twice() {
    let local = Local::start(&[Arc::new(FakeHost::new()), Arc::new(FakeHost::new())]).await;
    let mut jobs = Vec::new();
    // Longer than submitting takes, and more than one machine holds.
    for _ in 0..40 {
        jobs.push(local.submit(scripted(&[("FAKE_RUN", "500ms")])).await.id);
    }
    let mut agents = BTreeSet::new();
    for id in &jobs {
        let job = local.finished(id).await;
        assert_eq!((job.state(), job.attempts), (JobState::Succeeded, 1));
        agents.insert(job.agent);
    }
    assert_eq!(agents.len(), 2, "both machines took part");
    local.stop().await;
}
