//! The commands on jobs, one file each: load, `lifecycle::step`, save. The only callers of the store's writes.
//! Must never speak to an agent or a client: what follows from a commit goes out through [`Nudges`].

mod error;
mod nudges;
mod types;

pub use error::{Error, ResolveError};
pub use nudges::{Changes, Nudges, Stop, Work};
pub use types::*;

use crate::{lifecycle::Refusal, store::Store};
use longshore_common::{
    agent::{AgentIdentity, FinishReport, HeldAttempt, Inventory},
    artifact::ManifestEntry,
    ids::{AgentId, AttemptRef, ClusterId, Epoch, JobId},
    job::JobSpec,
    queue::Lane,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Settings of the commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How long an ended job is kept with its log and artifacts.
    pub retention: Duration,
    /// How long past `retention` a `request_id` is remembered.
    pub request_memory: Duration,
    /// The length of a lease: how long an agent may be out of touch before its attempts are given to others.
    pub disconnect_tolerance: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // A month: long enough for the holidays of whoever wants the result.
            retention: Duration::from_secs(30 * 24 * 3600),
            // A client that retries a request does so within days, not weeks.
            request_memory: Duration::from_secs(7 * 24 * 3600),
            // A switch that reboots must not cost a day of training.
            disconnect_tolerance: Duration::from_secs(600),
        }
    }
}

/// The handle on all commands. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Jobs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    config: Config,
    nudges: Nudges,
}

impl Jobs {
    /// Loads what must be at hand and starts the writer.
    pub async fn start(store: Store, config: Config) -> Result<Self, Error> {
        Ok(Self { inner: Arc::new(Inner { store, config, nudges: Nudges::new() }) })
    }

    pub fn cluster(&self) -> (ClusterId, Epoch) {
        unimplemented!()
    }

    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// What follows from commits; subscribe before reading the state.
    pub fn nudges(&self) -> &Nudges {
        &self.inner.nudges
    }

    /// Whether the database answers, and what it is, for `status`.
    pub async fn health(&self) -> Result<String, Error> {
        unimplemented!("{:?}", self.inner.store)
    }

    pub async fn submit(&self, jobs: Vec<NewJob>) -> Result<Vec<Result<Submitted, SubmitError>>, Error> {
        unimplemented!("{jobs:?}")
    }

    pub async fn claim(&self, claim: ClaimCommand) -> Result<Claimed, Error> {
        unimplemented!("{claim:?}")
    }

    /// Renews the listed attempts and stores phases that changed.
    pub async fn heartbeat(&self, agent: AgentId, held: Vec<HeldAttempt>) -> Result<HeartbeatAnswer, Error> {
        unimplemented!("{agent} {held:?}")
    }

    /// A link was opened.
    pub async fn hello(&self, agent: AgentIdentity, inventory: Inventory) -> Result<(), Error> {
        unimplemented!("{agent:?} {inventory:?}")
    }

    /// What an agent's heartbeat said of the machine. In memory only.
    pub fn agent_report(&self, agent: AgentId, report: AgentReport) {
        unimplemented!("{agent:?} {report:?}")
    }

    /// A link has ended; `session` keeps an old link from marking its successor.
    pub fn agent_left(&self, agent: AgentId, session: longshore_common::ids::SessionId) {
        unimplemented!("{agent:?} {session:?}")
    }

    /// All agents by name.
    pub fn agents(&self) -> Vec<AgentView> {
        unimplemented!()
    }

    /// By name or id.
    pub fn agent(&self, name: &str) -> Option<AgentView> {
        unimplemented!("{name}")
    }

    /// Keeps one page of a manifest aside until `finish` commits it. A repeat replaces.
    pub async fn put_manifest(
        &self,
        attempt: AttemptRef,
        page: u32,
        entries: Vec<ManifestEntry>,
    ) -> Result<Result<(), Refusal>, Error> {
        unimplemented!("{attempt} {page} {entries:?}")
    }

    /// Idempotent: a repeat of an accepted report is accepted.
    pub async fn finish(&self, reports: Vec<FinishReport>) -> Result<Vec<Result<(), Refusal>>, Error> {
        unimplemented!("{reports:?}")
    }

    /// Whether this token is the latest of its job and the job has not ended. Touches memory only.
    pub fn check_attempt(&self, attempt: AttemptRef) -> Result<LiveAttempt, Refusal> {
        unimplemented!("{attempt}")
    }

    /// Asks for the end of jobs; those that have ended stay as they are.
    pub async fn cancel(&self, jobs: Vec<JobId>, by: &str, reason: &str) -> Result<Vec<JobView>, Error> {
        unimplemented!("{jobs:?} {by} {reason}")
    }

    /// Makes a new job from an ended one. `spec`: the changed one, or `None` for the same.
    pub async fn retry(
        &self,
        job: JobId,
        request_id: Option<String>,
        spec: Option<JobSpec>,
    ) -> Result<Result<Submitted, SubmitError>, Error> {
        unimplemented!("{job} {request_id:?} {spec:?}")
    }

    /// Removes ended jobs and says what to delete elsewhere.
    pub async fn remove(&self, jobs: Vec<JobId>) -> Result<Removed, Error> {
        unimplemented!("{jobs:?}")
    }

    /// Short id, UUID, name (the newest of that name) or the unique beginning of a short id.
    pub async fn resolve(&self, text: &str) -> Result<JobId, ResolveError> {
        unimplemented!("{text}")
    }

    pub async fn get(&self, job: JobId) -> Result<JobView, Error> {
        unimplemented!("{job}")
    }

    /// In the order asked; those that are gone are left out.
    pub async fn get_many(&self, jobs: &[JobId]) -> Result<Vec<JobView>, Error> {
        unimplemented!("{jobs:?}")
    }

    pub async fn attempts(&self, job: JobId) -> Result<Vec<AttemptView>, Error> {
        unimplemented!("{job}")
    }

    /// Newest first.
    pub async fn list(&self, filter: &JobFilter, size: u32, token: &str) -> Result<Page<JobView>, Error> {
        unimplemented!("{filter:?} {size} {token}")
    }

    /// Jobs that match, with a revision past `revision`, in order of revision.
    pub async fn changed_since(
        &self,
        filter: &JobFilter,
        revision: u64,
        limit: u32,
    ) -> Result<Vec<JobView>, Error> {
        unimplemented!("{filter:?} {revision} {limit}")
    }

    /// The last committed revision.
    pub fn revision(&self) -> u64 {
        unimplemented!()
    }

    pub async fn explain(&self, job: JobId) -> Result<Explanation, Error> {
        unimplemented!("{job}")
    }

    pub async fn counts(&self) -> Result<Counts, Error> {
        unimplemented!()
    }

    /// Queued jobs per lane, counted up to `limit` in each.
    pub async fn queued(&self, limit: u32) -> Result<BTreeMap<Lane, u32>, Error> {
        unimplemented!("{limit}")
    }

    /// Committed artifacts of an attempt in path order.
    pub async fn artifacts(
        &self,
        attempt: &AttemptView,
        prefix: &[u8],
        size: u32,
        token: &str,
    ) -> Result<Page<StoredArtifact>, Error> {
        unimplemented!("{attempt:?} {prefix:?} {size} {token}")
    }

    /// In the order asked; `None` where there is no such artifact.
    pub async fn find_artifacts(
        &self,
        attempt: &AttemptView,
        paths: &[Vec<u8>],
    ) -> Result<Vec<Option<StoredArtifact>>, Error> {
        unimplemented!("{attempt:?} {paths:?}")
    }

    /// Keeps the list of an uploaded input. Its bytes are stored already.
    pub async fn create_input(&self, files: Vec<InputFile>) -> Result<CreatedInput, Error> {
        unimplemented!("{files:?}")
    }

    /// Files of an uploaded input in path order.
    pub async fn input_files(&self, input: &str, size: u32, token: &str) -> Result<Page<InputFile>, Error> {
        unimplemented!("{input} {size} {token}")
    }
}
