//! Removes jobs whose time is over, and the bytes that removed rows had named. The names lie in the database until
//! the bytes are gone, so an unreachable store only delays it.

use super::{Config, driver::Reconciler};
use crate::{
    blobs::{self, Blobs},
    jobs::{self, Jobs},
    log_store::{self, LogKey, LogStore},
};
use async_trait::async_trait;
use longshore_common::clock::Timestamp;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Jobs(#[from] jobs::Error),
    #[error(transparent)]
    Blobs(#[from] blobs::Error),
    #[error(transparent)]
    Logs(#[from] log_store::Error),
}

#[derive(Debug)]
pub(super) struct Retention {
    jobs: Jobs,
    every: Duration,
    audit: Duration,
    next: Instant,
    blobs: Arc<dyn Blobs>,
    logs: Arc<dyn LogStore>,
}

/// Objects deleted in one call: what S3 takes.
const PAGE: u32 = 1000;

impl Retention {
    pub(super) fn new(jobs: Jobs, config: &Config, blobs: Arc<dyn Blobs>, logs: Arc<dyn LogStore>) -> Self {
        let (every, audit) = (config.retention_every, config.audit_retention);
        Self { jobs, every, audit, next: Instant::now(), blobs, logs }
    }

    async fn objects(&self) -> Result<(), Error> {
        loop {
            let keys = self.jobs.garbage("object", PAGE).await?;
            if keys.is_empty() {
                return Ok(());
            }
            self.blobs.delete(&keys).await?;
            self.jobs.drop_garbage("object", keys).await?;
        }
    }

    async fn logs(&self) -> Result<(), Error> {
        loop {
            let names = self.jobs.garbage("log", PAGE).await?;
            if names.is_empty() {
                return Ok(());
            }
            let keys: Vec<LogKey> = names.iter().filter_map(|name| key(name)).collect();
            self.logs.delete(&keys).await?;
            self.jobs.drop_garbage("log", names).await?;
        }
    }
}

#[async_trait]
impl Reconciler for Retention {
    const NAME: &'static str = "retention";
    const EVERY: Duration = Duration::from_secs(60);
    type Error = Error;

    async fn sweep(&mut self) -> Result<Option<Timestamp>, Error> {
        if Instant::now() >= self.next {
            self.next = Instant::now() + self.every;
            self.jobs.forget_audit(Timestamp::now().minus(self.audit)).await?;
            let removed = self.jobs.remove_expired().await?;
            if removed > 0 {
                tracing::info!(jobs = removed, "removed jobs whose time was over");
            }
        }
        // One store that is out of reach must not keep the other from being cleared.
        let (objects, logs) = tokio::join!(self.objects(), self.logs());
        objects.and(logs)?;
        Ok(None)
    }

    async fn nudged(&mut self) {
        self.jobs.nudges().garbage().await;
    }
}

fn key(name: &str) -> Option<LogKey> {
    let key = name.parse();
    key.inspect_err(|error| tracing::error!(%error, "a log to be deleted is not known; its row goes")).ok()
}
