//! What follows from a commit, told to whoever acts on it. Losing a nudge is harmless: every listener also sweeps.

use super::types::Change;
use longshore_common::{
    agent::StopReason,
    ids::{AgentId, AttemptRef},
    queue::Lane,
};
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::{Notify, broadcast, watch};

/// All changes of one commit.
pub type Changes = Arc<[Change]>;

/// What moved in the lanes with one commit.
#[derive(Clone, Debug, Default)]
pub struct Work {
    /// Jobs newly queued, per lane.
    pub queued: BTreeMap<Lane, u32>,
    /// Hints used up by claims, per lane.
    pub spent: BTreeMap<Lane, u32>,
}

/// An attempt its agent must stop.
#[derive(Clone, Debug)]
pub struct Stop {
    pub agent: AgentId,
    pub attempt: AttemptRef,
    pub reason: StopReason,
}

/// The senders' side. A receiver that lags reads the state anew.
#[derive(Clone, Debug)]
pub struct Nudges {
    changes: broadcast::Sender<Changes>,
    work: broadcast::Sender<Arc<Work>>,
    stops: broadcast::Sender<Stop>,
    garbage: Arc<Notify>,
    /// Counts up when machines, or what is wanted of them, may be others.
    fleet: watch::Sender<u64>,
}

impl Nudges {
    pub(super) fn new() -> Self {
        // Commits, not jobs: a second's worth under full load.
        Self {
            changes: broadcast::channel(1024).0,
            work: broadcast::channel(1024).0,
            stops: broadcast::channel(1024).0,
            garbage: Arc::new(Notify::new()),
            fleet: watch::Sender::new(0),
        }
    }

    /// Nobody listening is fine.
    pub(super) fn send(&self, changes: Vec<Change>, work: Work, stops: Vec<Stop>) {
        if !changes.is_empty() {
            drop(self.changes.send(changes.into()));
        }
        if !work.queued.is_empty() || !work.spent.is_empty() {
            drop(self.work.send(Arc::new(work)));
        }
        self.stop(stops);
    }

    pub(super) fn stop(&self, stops: impl IntoIterator<Item = Stop>) {
        for stop in stops {
            drop(self.stops.send(stop));
        }
    }

    pub(super) fn fleet(&self) {
        self.fleet.send_modify(|count| *count += 1);
    }

    /// Changes when machines, or what is wanted of them, may be others.
    pub fn fleet_changes(&self) -> watch::Receiver<u64> {
        self.fleet.subscribe()
    }

    /// Rows went that named bytes.
    pub(super) fn removed(&self) {
        self.garbage.notify_one();
    }

    /// Returns when there may be bytes to delete. For one listener.
    pub(crate) async fn garbage(&self) {
        self.garbage.notified().await;
    }

    pub fn changes(&self) -> broadcast::Receiver<Changes> {
        self.changes.subscribe()
    }

    pub fn work(&self) -> broadcast::Receiver<Arc<Work>> {
        self.work.subscribe()
    }

    pub fn stops(&self) -> broadcast::Receiver<Stop> {
        self.stops.subscribe()
    }
}
