//! What goes into the commands on jobs and what comes out of them. Plain data, no behaviour.

pub use crate::lifecycle::Ending;

use super::secrets::OwnSecret;
use longshore_common::{
    agent::{
        AgentIdentity, AgentState, Capacity, Gpu, Grant, Holdings, Inventory, LaneAnswer, Offer, StopReason,
        Usage,
    },
    artifact::ManifestEntry,
    clock::Timestamp,
    fleet::{Cordon, Orders},
    ids::{AgentId, AttemptRef, ClaimId, JobId, ShortId},
    job::{JobSpec, JobState},
    queue::Lane,
};
use std::{collections::BTreeMap, sync::Arc};

/// A job to be made. The spec is complete and valid.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// Chosen by the client. The same id with the same spec answers with the same job. `None`: never deduplicated.
    pub request_id: Option<String>,
    pub project: String,
    pub spec: JobSpec,
    /// The ended job this one repeats.
    pub retry_of: Option<ShortId>,
    /// Secrets that it brings along.
    pub own: Vec<OwnSecret>,
    /// `None`: nobody in particular.
    pub submitter: Option<Submitter>,
}

/// Whose token it was. Names come again when tokens go, ids do not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitter {
    pub token: String,
    pub name: String,
}

/// The version of an action that a job is a run of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobAction {
    pub name: String,
    pub version: u32,
}

/// The batch that a job is a part of, and its place there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InBatch {
    pub id: ShortId,
    /// From 1.
    pub row: u32,
}

/// A job to be made, and where it comes from.
#[derive(Clone, Debug)]
pub struct Order {
    pub(super) new: NewJob,
    pub(super) action: Option<JobAction>,
    /// What the client sent instead of the spec: what a version makes of it is not part of the request.
    pub(super) sent: Option<Vec<u8>>,
}

impl Order {
    /// A run of an action.
    pub fn of_action(new: NewJob, action: JobAction, sent: Vec<u8>) -> Self {
        Self { new, action: Some(action), sent: Some(sent) }
    }

    /// Of the action that it runs.
    pub fn version(&self) -> Option<u32> {
        self.action.as_ref().map(|action| action.version)
    }

    pub const fn spec(&self) -> &JobSpec {
        &self.new.spec
    }

    /// Names of the secrets that came with it.
    pub fn own(&self) -> Vec<&str> {
        self.new.own.iter().map(|own| own.name.as_str()).collect()
    }

    /// A run of the same version as another job.
    pub(super) const fn again(new: NewJob, action: Option<JobAction>) -> Self {
        Self { new, action, sent: None }
    }
}

impl From<NewJob> for Order {
    fn from(new: NewJob) -> Self {
        Self { new, action: None, sent: None }
    }
}

#[derive(Clone, Debug)]
pub struct Submitted {
    pub job: JobView,
    /// The same request was made before.
    pub existing: bool,
}

/// Why one job of a batch was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    #[error("request_id `{request_id}` was used for another spec (job {job}); choose a new one")]
    RequestIdReused { request_id: String, job: ShortId },
    /// `field` is the path in the spec.
    #[error("{message}")]
    BadInput { field: String, message: String },
    #[error("project `{project}` {what}")]
    OverQuota { project: String, what: String },
    #[error("request_id `{request_id}` made job {job}, which was removed; choose a new one")]
    RequestOfRemoved { request_id: String, job: ShortId },
}

/// A job as people see it.
#[derive(Clone, Debug)]
pub struct JobView {
    pub id: JobId,
    pub short_id: ShortId,
    pub project: String,
    /// The spec's name, else the last segment of the image's path.
    pub name: String,
    pub spec: Arc<JobSpec>,
    pub state: JobState,
    pub cancel_requested: bool,
    pub ending: Option<Ending>,
    /// How many there were.
    pub attempts: u32,
    /// Name of the last attempt's agent.
    pub agent: Option<String>,
    pub created_at: Timestamp,
    /// Of the container, last attempt.
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub not_before: Option<Timestamp>,
    /// When retention removes it; set at its end.
    pub expires_at: Option<Timestamp>,
    pub retry_of: Option<ShortId>,
    pub action: Option<JobAction>,
    pub revision: u64,
    pub lane: Lane,
    pub submitter: Option<Submitter>,
    pub batch: Option<InBatch>,
    /// It waits for other jobs.
    pub blocked: bool,
    /// Its batch has not let it go yet.
    pub awaits_turn: bool,
}

/// Everything about one job at one instant.
#[derive(Clone, Debug)]
pub struct WholeJob {
    pub job: JobView,
    /// By number.
    pub attempts: Vec<AttemptView>,
    /// Of one that is at rest.
    pub waiting: Option<Explanation>,
}

/// An attempt as people see it.
#[derive(Clone, Debug)]
pub struct AttemptView {
    pub attempt: AttemptRef,
    pub state: JobState,
    pub agent_id: AgentId,
    pub agent: String,
    /// `0 NVIDIA A100 80GB GPU-…`
    pub gpus: Vec<String>,
    pub ending: Option<Ending>,
    pub claimed_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub exited_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub log_end: u64,
    pub artifact_count: u64,
    pub artifact_bytes: u64,
    pub usage: Usage,
    pub notes: Vec<String>,
    /// Of the image that ran, as the registry names it.
    pub digest: Option<String>,
    /// Its agent has reported the end: manifest and log end are committed.
    pub committed: bool,
    /// Part of the keys of its objects: `object_key`.
    pub nonce: String,
}

/// An attempt whose token is the latest of its job and whose job has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveAttempt {
    pub attempt: AttemptRef,
    pub agent: AgentId,
    pub short_id: ShortId,
    pub project: String,
    pub nonce: String,
}

/// Where an artifact's bytes are. Keys never hold names of files.
pub fn object_key(nonce: &str, ordinal: u64) -> String {
    format!("{OBJECT_KEYS}{nonce}/{ordinal}")
}

pub(crate) const OBJECT_KEYS: &str = "attempt/";

#[derive(Clone, Debug)]
pub struct ClaimCommand {
    /// A repeat is answered with the same grants.
    pub claim: ClaimId,
    pub agent: AgentId,
    pub offer: Offer,
    /// Hints used up by this claim.
    pub hints: BTreeMap<Lane, u32>,
}

#[derive(Clone, Debug, Default)]
pub struct Claimed {
    pub grants: Vec<Grant>,
    pub lanes: BTreeMap<Lane, LaneAnswer>,
}

#[derive(Clone, Debug, Default)]
pub struct HeartbeatAnswer {
    /// Listed by the agent, and not its own any more.
    pub fenced: Vec<AttemptRef>,
    /// Its own, and not renewed: the job is back in its queue. A finish is still taken.
    pub expired: Vec<AttemptRef>,
    /// Its own, and to be stopped; repeated in every answer until the agent reports the end.
    pub stops: Vec<(AttemptRef, StopReason)>,
}

/// What an agent says of itself with every heartbeat.
#[derive(Clone, Debug, Default)]
pub struct AgentReport {
    pub free: Capacity,
    pub gpus: Vec<Gpu>,
    /// What the operator should know.
    pub note: String,
    /// Why it claims nothing at all; empty: it does.
    pub closed: String,
    /// Grants it still takes; `None`: it does not say.
    pub slots: Option<u32>,
    /// Too little room on a disk to claim.
    pub disk_low: bool,
    /// What lies there; `None`: as told before.
    pub holdings: Option<Holdings>,
    pub caches_bytes: u64,
    /// It was told to stop: until when what runs there may go on.
    pub leaving: Option<Cordon>,
}

/// An agent as people see it.
#[derive(Clone, Debug)]
pub struct AgentView {
    pub identity: AgentIdentity,
    pub inventory: Inventory,
    pub state: AgentState,
    pub seen_at: Timestamp,
    pub free: Capacity,
    pub gpus: Vec<Gpu>,
    pub jobs: Vec<HeldJob>,
    pub note: String,
    /// Why it takes nothing at all; empty: it does.
    pub closed: String,
    /// Grants it still takes; `None`: it does not say.
    pub slots: Option<u32>,
    /// What operators want of it.
    pub orders: Orders,
    pub disk_low: bool,
    /// `None`: it never told.
    pub holdings: Option<Arc<Holdings>>,
    pub caches_bytes: u64,
    /// It was told to stop, by nobody of ours: stands in `orders` too, unless an operator drains it.
    pub leaving: Option<Cordon>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldJob {
    pub job: ShortId,
    pub project: String,
    pub attempt: u32,
    /// UUIDs.
    pub gpus: Vec<String>,
}

/// Which jobs to list. Empty fields match all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFilter {
    pub states: Vec<JobState>,
    pub labels: BTreeMap<String, String>,
    pub name: Option<String>,
    /// Made at or after.
    pub since: Option<Timestamp>,
    pub project: Option<String>,
    pub unfinished: bool,
    /// Runs of this action.
    pub action: Option<String>,
    pub action_version: Option<u32>,
    /// Parts of this batch.
    pub batch: Option<ShortId>,
}

/// A page of a list. The token belongs to the filter it was made with.
#[derive(Clone, Debug)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next: Option<String>,
}

/// A committed file of an attempt.
#[derive(Clone, Debug)]
pub struct StoredArtifact {
    pub entry: ManifestEntry,
    /// Where its bytes are in `Blobs`.
    pub key: String,
}

/// A file of an uploaded input. Its bytes are named by their digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputFile {
    pub path: Vec<u8>,
    pub size: u64,
    pub sha256: [u8; 32],
    pub mode: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedInput {
    /// Digest of the list.
    pub id: String,
    pub files: u64,
    pub bytes: u64,
}

/// Why a job waits.
#[derive(Clone, Debug, Default)]
pub struct Explanation {
    /// 1: next in its order. 0: not in a queue.
    pub place: u32,
    /// One line.
    pub summary: String,
    pub agents: Vec<AgentReason>,
    /// When it begins at the latest, if nothing comes before it.
    pub estimate: Option<Timestamp>,
    /// What to ask for instead, if no agent can ever take it.
    pub changes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentReason {
    pub agent: String,
    pub reason: String,
    /// No freeing of capacity mends it.
    pub permanent: bool,
    /// When that ends at the latest, by the run deadlines of what holds the machine.
    pub until: Option<Timestamp>,
}

/// The numbers of `status`.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub waiting: u64,
    pub queued: u64,
    /// Claimed, preparing, running or collecting.
    pub running: u64,
    pub oldest_queued: Option<Timestamp>,
    pub agents_online: u32,
    pub agents_disconnected: u32,
    pub agents_lost: u32,
}

/// What became of a removal. The bytes of logs and artifacts go soon after: `reconcile::retention`.
#[derive(Clone, Debug, Default)]
pub struct Removed {
    pub jobs: Vec<ShortId>,
    /// Not removed because they have not ended.
    pub unfinished: Vec<ShortId>,
    /// Not removed because others need them.
    pub needed: Vec<Needed>,
}

/// A job whose outputs are inputs of jobs that have not ended, or whose end they wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    pub job: ShortId,
    /// The first few of them.
    pub by: Vec<ShortId>,
    /// How many there are.
    pub count: u64,
}

/// A committed change of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub job: JobId,
    pub revision: u64,
    pub state: JobState,
}
