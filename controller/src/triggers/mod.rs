//! What starts jobs by itself: a clock, a signed call, a new object, another job's end. Everything that happens is
//! first noted under a name of its own, once, and then made a job of, in the name of whoever owns the trigger. Must
//! never start a job past `jobs`, nor let an event say more of it than the trigger's author wrote down.

mod apply;
mod clock;
mod completions;
mod error;
mod fire;
mod hooks;
mod make;
mod objects;
mod signature;
mod sources;
#[cfg(test)]
mod tests;
mod view;

pub use apply::Applied;
pub use error::Error;
pub(crate) use hooks::{Answer, Delivery, Denied};
pub(crate) use signature::{GITHUB, LONGSHORE};
pub use sources::{SourceConfig, SourceError, Sources};
pub use view::{FiringView, TriggerView};

use crate::{
    actions::Actions, disk::Disk, identity::Identity, jobs::Jobs, secrets::Secrets, store::TriggerRow,
};
use hooks::Limits;
use longshore_common::ids::TriggerId;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};
use tokio::sync::{Mutex, Notify};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How often prefixes are listed.
    pub list_every: Duration,
    /// Objects below one prefix; a prefix that holds more fires nothing and says so.
    pub most_objects: usize,
    /// Firings of one look at a prefix; the rest comes with the next ones.
    pub batch: usize,
    /// Firings kept for each trigger beside those whose jobs are there.
    pub history: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // A thousand objects are one call; nobody waits by the second for a file to be seen.
            list_every: Duration::from_secs(15),
            // A hundred calls for one look, and a few dozen megabytes.
            most_objects: 100_000,
            // A few megabytes in one transaction.
            batch: 500,
            // Weeks of a nightly run, hours of a busy webhook.
            history: 1_000,
        }
    }
}

/// Triggers of one project at most.
const MOST: usize = 1_000;

/// All triggers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Triggers {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    jobs: Jobs,
    actions: Actions,
    identity: Identity,
    secrets: Secrets,
    disk: Disk,
    config: Config,
    sources: Sources,
    state: RwLock<State>,
    /// Held by whoever changes triggers or moves their cursors.
    changing: Mutex<()>,
    /// Held by whoever makes jobs of firings.
    firing: Mutex<()>,
    /// There is something to make jobs of.
    noted: Notify,
    /// A clock may be another.
    clocks: Notify,
    limits: Limits,
}

#[derive(Debug, Default)]
struct State {
    rows: BTreeMap<TriggerId, Arc<TriggerRow>>,
    /// What the last look found wrong.
    problems: HashMap<TriggerId, String>,
}

/// What triggers need of the rest.
#[derive(Debug)]
pub struct Parts {
    pub jobs: Jobs,
    pub identity: Identity,
    pub secrets: Secrets,
    pub disk: Disk,
    pub sources: Sources,
}

impl Triggers {
    pub async fn start(parts: Parts, config: Config) -> Result<Self, Error> {
        let Parts { jobs, identity, secrets, disk, sources } = parts;
        let rows = jobs.triggers().await?.into_iter().map(|row| (row.id, Arc::new(row))).collect();
        let state = RwLock::new(State { rows, problems: HashMap::new() });
        let inner = Inner {
            actions: Actions::new(&jobs),
            jobs,
            identity,
            secrets,
            disk,
            config,
            sources,
            state,
            changing: Mutex::default(),
            firing: Mutex::default(),
            noted: Notify::new(),
            clocks: Notify::new(),
            limits: Limits::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub fn sources(&self) -> &Sources {
        &self.inner.sources
    }

    pub(crate) fn jobs(&self) -> &Jobs {
        &self.inner.jobs
    }

    /// How often prefixes are listed.
    pub(crate) fn list_every(&self) -> Duration {
        self.inner.config.list_every
    }

    /// Returns when there may be something to make jobs of.
    pub(crate) async fn noted(&self) {
        self.inner.noted.notified().await;
    }

    /// Returns when a clock may be another.
    pub(crate) async fn clocks(&self) {
        self.inner.clocks.notified().await;
    }

    /// Forgets what nobody asks about any more. Answers how many firings went.
    pub(crate) async fn forget(&self) -> Result<u32, Error> {
        let now = longshore_common::clock::Timestamp::now();
        let before = now.minus(signature::REMEMBERED);
        Ok(self.inner.jobs.forget_firings(self.inner.config.history, before).await?)
    }

    fn row(&self, project: &str, name: &str) -> Result<Arc<TriggerRow>, Error> {
        let state = self.read();
        let found = state.rows.values().find(|row| row.project == project && row.spec.name == name);
        found.cloned().ok_or_else(|| Error::NotFound { project: project.to_owned(), name: name.to_owned() })
    }

    fn by_id(&self, id: TriggerId) -> Option<Arc<TriggerRow>> {
        self.read().rows.get(&id).cloned()
    }

    /// Those that are enabled.
    fn live(&self) -> Vec<Arc<TriggerRow>> {
        self.read().rows.values().filter(|row| row.enabled).cloned().collect()
    }

    fn keep(&self, row: TriggerRow) -> Arc<TriggerRow> {
        let row = Arc::new(row);
        self.write().rows.insert(row.id, Arc::clone(&row));
        row
    }

    fn note_problem(&self, id: TriggerId, problem: Option<String>) {
        let mut state = self.write();
        match problem {
            Some(problem) => {
                if state.problems.get(&id) != Some(&problem) {
                    tracing::warn!(trigger = %id, problem, "a trigger cannot look");
                }
                state.problems.insert(id, problem);
            }
            None => drop(state.problems.remove(&id)),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.inner.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.inner.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}
