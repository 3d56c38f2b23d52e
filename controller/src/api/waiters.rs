//! Wakes whoever waits for one job. One task reads all changes, so a thousand waiting clients cost a commit nothing.

use crate::jobs::{Changes, Jobs};
use longshore_common::{ids::JobId, shutdown::Shutdown, tasks};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{broadcast::error::RecvError, watch};

/// Clones are the same set.
#[derive(Clone, Debug, Default)]
pub struct Waiters(Arc<Mutex<HashMap<JobId, watch::Sender<()>>>>);

/// One client's interest in one job.
#[derive(Debug)]
pub struct Waiter {
    set: Waiters,
    job: JobId,
    changed: watch::Receiver<()>,
}

impl Waiters {
    pub fn start(jobs: &Jobs, shutdown: Shutdown) -> Self {
        let waiters = Self::default();
        let (set, mut changes) = (waiters.clone(), jobs.nudges().changes());
        tasks::spawn("waiters", async move {
            loop {
                tokio::select! {
                    () = shutdown.triggered() => return,
                    received = changes.recv() => match received {
                        Ok(changes) => set.wake(&changes),
                        Err(RecvError::Lagged(_)) => set.wake_all(),
                        Err(RecvError::Closed) => return,
                    },
                }
            }
        });
        waiters
    }

    /// Subscribe before reading the job, or a change in between is missed.
    pub fn subscribe(&self, job: JobId) -> Waiter {
        let changed = self.lock().entry(job).or_insert_with(|| watch::Sender::new(())).subscribe();
        Waiter { set: self.clone(), job, changed }
    }

    fn wake(&self, changes: &Changes) {
        let set = self.lock();
        if set.is_empty() {
            return;
        }
        for sender in changes.iter().filter_map(|change| set.get(&change.job)) {
            sender.send_replace(());
        }
    }

    fn wake_all(&self) {
        for sender in self.lock().values() {
            sender.send_replace(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, watch::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    /// Returns when the job has changed since the last call, or since `subscribe`. Cancel-safe.
    pub async fn changed(&mut self) {
        if self.changed.changed().await.is_err() {
            // The set outlives its waiters: this does not happen, and must not spin if it did.
            std::future::pending::<()>().await;
        }
    }

    /// Whether `changed` would return at once; forgets it.
    pub fn take_changed(&mut self) -> bool {
        let changed = self.changed.has_changed().unwrap_or(false);
        self.changed.mark_unchanged();
        changed
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut set = self.set.lock();
        // This receiver still counts.
        if set.get(&self.job).is_some_and(|sender| sender.receiver_count() <= 1) {
            set.remove(&self.job);
        }
    }
}
