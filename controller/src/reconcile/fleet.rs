//! Cordons whose time is over, drains, and what happens to machines.

use super::driver::Reconciler;
use crate::jobs::{Error, FleetWatch, Jobs};
use async_trait::async_trait;
use longshore_common::clock::Timestamp;
use std::time::Duration;
use tokio::sync::watch;

#[derive(Debug)]
pub(super) struct Fleet {
    jobs: Jobs,
    watch: FleetWatch,
    changes: watch::Receiver<u64>,
}

impl Fleet {
    pub(super) fn new(jobs: Jobs) -> Self {
        let changes = jobs.nudges().fleet_changes();
        Self { jobs, watch: FleetWatch::default(), changes }
    }
}

#[async_trait]
impl Reconciler for Fleet {
    const NAME: &'static str = "fleet";
    /// Silence and notes ring no bell.
    const EVERY: Duration = Duration::from_secs(5);
    type Error = Error;

    async fn sweep(&mut self) -> Result<Option<Timestamp>, Error> {
        self.jobs.sweep_fleet(&mut self.watch).await
    }

    async fn nudged(&mut self) {
        if self.changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
