//! Leases that run out, and when agents were last seen.

use super::driver::Reconciler;
use crate::jobs::{Error, Jobs};
use async_trait::async_trait;
use longshore_common::clock::Timestamp;
use std::time::Duration;
use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Leases {
    jobs: Jobs,
    grace: Duration,
    saved: Instant,
}

/// Only `agents ls` after a restart reads it.
const SAVE_EVERY: Duration = Duration::from_secs(60);

impl Leases {
    pub(super) fn new(jobs: Jobs, grace: Duration) -> Self {
        Self { jobs, grace, saved: Instant::now() }
    }
}

#[async_trait]
impl Reconciler for Leases {
    const NAME: &'static str = "leases";
    const EVERY: Duration = Duration::from_secs(5);
    type Error = Error;

    async fn sweep(&mut self) -> Result<Option<Timestamp>, Error> {
        let lost = self.jobs.expire_leases(self.grace).await?;
        if lost > 0 {
            tracing::warn!(attempts = lost, "leases ran out; their jobs are queued again");
        }
        if self.saved.elapsed() >= SAVE_EVERY {
            self.saved = Instant::now();
            self.jobs.save_agents_seen().await?;
        }
        Ok(None)
    }

    /// Silence rings no bell.
    async fn nudged(&mut self) {
        std::future::pending().await
    }
}
