//! Ends of backoffs and queue deadlines.

use super::driver::Reconciler;
use crate::jobs::{Changes, Error, Jobs};
use async_trait::async_trait;
use longshore_common::{clock::Timestamp, job::JobState};
use std::time::Duration;
use tokio::sync::broadcast::Receiver;

/// Queues waiting jobs when their wait is over.
#[derive(Debug)]
pub(super) struct Backoffs {
    jobs: Jobs,
    changes: Receiver<Changes>,
}

/// Ends queued jobs that nobody claimed in time.
#[derive(Debug)]
pub(super) struct Deadlines {
    jobs: Jobs,
    changes: Receiver<Changes>,
}

impl Backoffs {
    pub(super) fn new(jobs: Jobs) -> Self {
        Self { changes: jobs.nudges().changes(), jobs }
    }
}

impl Deadlines {
    pub(super) fn new(jobs: Jobs) -> Self {
        Self { changes: jobs.nudges().changes(), jobs }
    }
}

#[async_trait]
impl Reconciler for Backoffs {
    const NAME: &'static str = "backoffs";
    const EVERY: Duration = Duration::from_secs(30);
    type Error = Error;

    async fn sweep(&mut self) -> Result<Option<Timestamp>, Error> {
        self.jobs.end_backoffs().await
    }

    async fn nudged(&mut self) {
        until(&mut self.changes, JobState::Waiting).await;
    }
}

#[async_trait]
impl Reconciler for Deadlines {
    const NAME: &'static str = "queue-deadlines";
    const EVERY: Duration = Duration::from_secs(30);
    type Error = Error;

    async fn sweep(&mut self) -> Result<Option<Timestamp>, Error> {
        self.jobs.pass_queue_deadlines().await
    }

    async fn nudged(&mut self) {
        until(&mut self.changes, JobState::Queued).await;
    }
}

/// A job came into this state, or changes were missed.
async fn until(changes: &mut Receiver<Changes>, state: JobState) {
    use tokio::sync::broadcast::error::RecvError;
    loop {
        match changes.recv().await {
            Ok(changes) if changes.iter().all(|change| change.state != state) => {}
            Ok(_) | Err(RecvError::Lagged(_)) => return,
            // `Jobs` holds the sender and we hold `Jobs`.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}
