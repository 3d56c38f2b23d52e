//! Takes back the run keys of attempts that are over.

use super::driver::Reconciler;
use crate::{
    jobs::{Changes, Jobs},
    run_keys::{Error, RunKeys},
};
use async_trait::async_trait;
use longshore_common::clock::Timestamp;
use std::time::Duration;
use tokio::sync::broadcast;

#[derive(Debug)]
pub(super) struct Keys {
    keys: RunKeys,
    changes: broadcast::Receiver<Changes>,
}

impl Keys {
    pub(super) fn new(keys: RunKeys, jobs: &Jobs) -> Self {
        Self { keys, changes: jobs.nudges().changes() }
    }
}

#[async_trait]
impl Reconciler for Keys {
    const NAME: &'static str = "run-keys";
    // A lease that runs out is heard of; this is for what nobody tells.
    const EVERY: Duration = Duration::from_secs(15);
    const CUT_OFF: bool = true;
    type Error = Error;

    async fn sweep(&mut self) -> Result<Option<Timestamp>, Error> {
        self.keys.sweep().await
    }

    async fn nudged(&mut self) {
        self.keys.nudged(&mut self.changes).await;
    }
}
