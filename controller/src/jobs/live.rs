//! Attempts that speak for an unfinished job, in memory: what every log line, upload and heartbeat asks for.
//! Changed only after a commit, filled from the database at start.

use super::types::LiveAttempt;
use crate::lifecycle::Refusal;
use longshore_common::{
    agent::StopReason,
    clock::Timestamp,
    ids::{AgentId, AttemptRef, JobId},
    job::JobState,
};
use std::{
    collections::HashMap,
    sync::{RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};
use tokio::time::Instant;

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) live: LiveAttempt,
    pub(super) gpus: Vec<String>,
    pub(super) state: JobState,
    pub(super) started_at: Option<Timestamp>,
    pub(super) exited_at: Option<Timestamp>,
    /// Why it is to be stopped.
    pub(super) stop: Option<String>,
    /// When its agent listed it last, on our own clock.
    pub(super) renewed: Instant,
}

impl Entry {
    pub(super) fn stop(&self) -> Option<(AttemptRef, StopReason)> {
        let reason = self.stop.clone().filter(|_| self.state.is_held())?;
        Some((self.live.attempt, StopReason::Cancel(reason)))
    }
}

/// Where a listed attempt stands.
#[derive(Clone, Debug)]
pub(super) enum Standing {
    /// The agent's own. `news`: its phase or times are to be stored.
    Held {
        news: bool,
        stop: Option<(AttemptRef, StopReason)>,
    },
    /// Its lease had run out; a finish is still taken.
    Expired,
    Unknown,
}

#[derive(Debug, Default)]
pub(super) struct Live {
    entries: RwLock<HashMap<JobId, Entry>>,
}

impl Live {
    pub(super) fn check(&self, attempt: AttemptRef) -> Result<LiveAttempt, Refusal> {
        match self.read().get(&attempt.job) {
            Some(entry) if entry.live.attempt == attempt => Ok(entry.live.clone()),
            Some(_) | None => Err(Refusal::Fenced),
        }
    }

    /// An agent lists an attempt: its lease begins anew.
    pub(super) fn renew(&self, agent: AgentId, held: &longshore_common::agent::HeldAttempt) -> Standing {
        let mut entries = self.write();
        let entry = entries
            .get_mut(&held.attempt.job)
            .filter(|entry| entry.live.attempt == held.attempt && entry.live.agent == agent);
        let Some(entry) = entry else { return Standing::Unknown };
        if !entry.state.is_held() {
            return Standing::Expired;
        }
        entry.renewed = Instant::now();
        let news = held.phase > entry.state
            || (held.started_at.is_some() && entry.started_at.is_none())
            || (held.exited_at.is_some() && entry.exited_at.is_none());
        Standing::Held { news, stop: entry.stop() }
    }

    /// These times are in the database: they are no news any more.
    pub(super) fn stored(&self, held: &longshore_common::agent::HeldAttempt) {
        let mut entries = self.write();
        let entry = entries.get_mut(&held.attempt.job).filter(|entry| entry.live.attempt == held.attempt);
        if let Some(entry) = entry {
            entry.started_at = held.started_at.or(entry.started_at);
            entry.exited_at = held.exited_at.or(entry.exited_at);
        }
    }

    /// Held attempts whose agent was silent for longer than `lease`.
    pub(super) fn silent(&self, lease: Duration) -> Vec<(AttemptRef, AgentId)> {
        let now = Instant::now();
        let silent =
            |entry: &&Entry| entry.state.is_held() && now.saturating_duration_since(entry.renewed) > lease;
        self.read().values().filter(silent).map(|entry| (entry.live.attempt, entry.live.agent)).collect()
    }

    pub(super) fn put(&self, entry: Entry) {
        self.write().insert(entry.live.attempt.job, entry);
    }

    pub(super) fn update(&self, job: JobId, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.write().get_mut(&job) {
            change(entry);
        }
    }

    pub(super) fn remove(&self, job: JobId) {
        self.write().remove(&job);
    }

    /// Held attempts by agent.
    pub(super) fn by_agent(&self) -> HashMap<AgentId, Vec<super::types::HeldJob>> {
        let mut held: HashMap<_, Vec<_>> = HashMap::new();
        for entry in self.read().values().filter(|entry| entry.state.is_held()) {
            held.entry(entry.live.agent).or_default().push(super::types::HeldJob {
                job: entry.live.short_id.clone(),
                attempt: entry.live.attempt.number,
                gpus: entry.gpus.clone(),
            });
        }
        held
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<JobId, Entry>> {
        self.entries.read().expect("nobody panics under this lock")
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<JobId, Entry>> {
        self.entries.write().expect("nobody panics under this lock")
    }
}
