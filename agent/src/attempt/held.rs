//! The attempts this agent holds: what heartbeats list, and where a stop finds its attempt. Never decides.

mod gpus;
mod inside;

pub(crate) use gpus::Story;
pub(crate) use inside::Open;

use super::stop::{self, Cause, StopSignal, Stopper};
use crate::{capacity::Ours, gpus::Looks, status};
use longshore_common::{
    agent::{HeldAttempt, Usage},
    clock::Timestamp,
    ids::{AttemptRef, ShortId},
    job::JobState,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

#[derive(Clone, Debug, Default)]
pub struct Held(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    entries: Mutex<BTreeMap<AttemptRef, Entry>>,
    changed: Notify,
    emptied: Notify,
    looks: Looks,
}

#[derive(Debug)]
struct Entry {
    attempt: HeldAttempt,
    stopper: Stopper,
    /// Used now; `usage` holds what was used in all.
    memory_bytes: u64,
    disk_bytes: u64,
    lease: Lease,
    gpus: gpus::Share,
    /// While its container runs.
    inside: Option<inside::Inside>,
    /// Its container has ended, or it is held no more.
    over: CancellationToken,
    /// Whose it is, for people on the node.
    serves: Serves,
}

#[derive(Clone, Debug, Default)]
struct Serves {
    job: String,
    project: String,
    gpus: Vec<String>,
}

/// How long the agent may act for the job without the controller's word.
#[derive(Clone, Copy, Debug)]
struct Lease {
    length: Duration,
    /// From before the renewal was asked for, on our own clock.
    since: Instant,
}

impl Held {
    /// Lists an attempt from now on, its lease counted from `since`; `None` if it is held already (a grant that was
    /// repeated).
    pub(crate) fn admit(
        &self,
        attempt: AttemptRef,
        length: Duration,
        since: Instant,
    ) -> Option<(Holding, StopSignal)> {
        let (stopper, signal) = stop::channel();
        let mut entries = self.lock();
        if entries.contains_key(&attempt) {
            return None;
        }
        let listed = HeldAttempt {
            attempt,
            phase: JobState::Claimed,
            started_at: None,
            exited_at: None,
            usage: Usage::default(),
            digest: None,
        };
        let (sender, lines) = mpsc::channel(gpus::LINES);
        entries.insert(
            attempt,
            Entry {
                attempt: listed,
                stopper,
                memory_bytes: 0,
                disk_bytes: 0,
                lease: Lease { length, since },
                gpus: gpus::Share::new(sender),
                inside: None,
                over: CancellationToken::new(),
                serves: Serves::default(),
            },
        );
        drop(entries);
        self.0.changed.notify_one();
        Some((Holding { held: self.clone(), attempt, lines }, signal))
    }

    /// Says stop to one attempt. One that is not held is none of ours any more.
    pub fn stop(&self, attempt: &AttemptRef, cause: Cause) {
        if let Some(entry) = self.lock().get(attempt) {
            entry.stopper.raise(cause);
        }
    }

    pub fn stop_all(&self, cause: &Cause) {
        for entry in self.lock().values() {
            entry.stopper.raise(cause.clone());
        }
    }

    pub fn list(&self) -> Vec<HeldAttempt> {
        self.lock().values().map(|entry| entry.attempt.clone()).collect()
    }

    /// As the node itself tells it.
    pub(crate) fn jobs(&self) -> Vec<status::Job> {
        let job = |entry: &Entry| status::Job {
            job: entry.serves.job.clone(),
            project: entry.serves.project.clone(),
            attempt: entry.attempt.attempt.number,
            phase: entry.attempt.phase.to_string(),
            started: entry.attempt.started_at.map(Timestamp::to_rfc3339).unwrap_or_default(),
            gpus: entry.serves.gpus.clone(),
        };
        self.lock().values().map(job).collect()
    }

    /// The controller renewed these leases; it was asked at `since`.
    pub(crate) fn renewed(&self, attempts: &[AttemptRef], since: Instant) {
        let mut entries = self.lock();
        for attempt in attempts {
            if let Some(entry) = entries.get_mut(attempt) {
                entry.lease.since = entry.lease.since.max(since);
            }
        }
    }

    /// Stops what the controller has not renewed in time.
    pub(crate) fn stop_expired(&self, now: Instant) {
        for entry in self.lock().values() {
            let Lease { length, since } = entry.lease;
            if now.saturating_duration_since(since) >= length {
                entry.stopper.raise(Cause::LeaseLost(length));
            }
        }
    }

    /// `None`: nothing is held.
    pub(crate) fn shortest_lease(&self) -> Option<Duration> {
        self.lock().values().map(|entry| entry.lease.length).min()
    }

    /// What the containers of all of them use.
    pub fn ours(&self) -> Ours {
        let mut ours = Ours::default();
        for (attempt, entry) in &*self.lock() {
            ours.cpu_micros.insert(*attempt, entry.attempt.usage.cpu_micros);
            ours.memory_bytes += entry.memory_bytes;
            ours.disk_bytes += entry.disk_bytes;
        }
        ours
    }

    pub fn len(&self) -> usize {
        self.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Returns when a grant or a phase changed since the last call. Cancel-safe, for one waiter.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Returns once nothing is held.
    pub async fn empty(&self) {
        loop {
            let emptied = self.0.emptied.notified();
            if self.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<AttemptRef, Entry>> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An attempt's own place in the list; it leaves the list when dropped.
#[derive(Debug)]
pub struct Holding {
    held: Held,
    attempt: AttemptRef,
    /// What is to go into its log.
    lines: mpsc::Receiver<String>,
}

impl Holding {
    /// Stays listed for as long as the process lives: the next one takes the attempt over, and until then heartbeats
    /// keep it ours.
    pub fn stay(self) {
        std::mem::forget(self);
    }

    /// Says whose it is.
    pub(crate) fn serves(&self, job: &ShortId, project: &str, gpus: &[String]) {
        let serves = Serves { job: job.to_string(), project: project.to_owned(), gpus: gpus.to_vec() };
        self.update(|entry| entry.serves = serves);
    }

    pub fn phase(&self, phase: JobState) {
        self.update(|entry| entry.attempt.phase = phase);
        self.held.0.changed.notify_one();
    }

    pub fn started(&self, at: Timestamp) {
        self.update(|entry| {
            entry.attempt.started_at = Some(at);
            entry.attempt.phase = JobState::Running;
        });
        self.held.0.changed.notify_one();
    }

    pub fn exited(&self, at: Timestamp) {
        self.update(|entry| {
            entry.attempt.exited_at = Some(at);
            entry.attempt.phase = JobState::Collecting;
            entry.memory_bytes = 0;
        });
        self.held.0.changed.notify_one();
    }

    /// Of the image it will run.
    pub fn digest(&self, digest: Option<String>) {
        self.update(|entry| entry.attempt.digest = digest);
    }

    /// Goes up with the next heartbeat, not at once.
    pub fn usage(&self, usage: Usage, memory_bytes: u64, disk_bytes: u64) {
        self.update(|entry| {
            entry.attempt.usage = Usage { gpu: entry.gpus.usage(), ..usage };
            entry.memory_bytes = memory_bytes;
            entry.disk_bytes = disk_bytes;
        });
    }

    fn update(&self, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.held.lock().get_mut(&self.attempt) {
            change(entry);
        }
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let mut entries = self.held.lock();
        if let Some(entry) = entries.remove(&self.attempt) {
            entry.over.cancel();
        }
        let empty = entries.is_empty();
        drop(entries);
        if empty {
            self.held.0.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::ids::{Epoch, JobId};

    #[tokio::test]
    async fn an_attempt_is_held_once_and_leaves_when_dropped() {
        let held = Held::default();
        let attempt = AttemptRef { job: JobId::new(), number: 1, epoch: Epoch(1) };
        let admit = || held.admit(attempt, Duration::from_secs(60), Instant::now());
        let (holding, mut signal) = admit().expect("free");
        assert!(admit().is_none());
        holding.started(Timestamp::from_micros(5));
        held.changed().await;
        assert_eq!(held.list()[0].phase, JobState::Running);
        held.stop(&attempt, Cause::Revoked);
        assert_eq!(signal.beyond(None).await, Cause::Revoked);
        drop(holding);
        held.empty().await;
        assert!(held.list().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_nobody_renewed_stops_its_attempt() {
        let held = Held::default();
        let attempts = [1, 2].map(|number| AttemptRef { job: JobId::new(), number, epoch: Epoch(1) });
        let lease = Duration::from_secs(60);
        let began = Instant::now();
        let [(_silent, silent), (_heard, heard)] =
            attempts.map(|attempt| held.admit(attempt, lease, began).expect("free"));
        held.renewed(&attempts[1..], began + Duration::from_secs(30));
        held.stop_expired(began + Duration::from_secs(59));
        assert_eq!((silent.said(), heard.said()), (None, None));
        held.stop_expired(began + lease);
        assert_eq!((silent.said(), heard.said()), (Some(Cause::LeaseLost(lease)), None));
        // An answer that comes late does not shorten a lease.
        held.renewed(&attempts[1..], began);
        held.stop_expired(began + Duration::from_secs(89));
        assert_eq!(heard.said(), None);
    }
}
