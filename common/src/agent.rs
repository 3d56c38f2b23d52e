//! What an agent is and what it offers.

use crate::clock::Timestamp;
use crate::ids::{AgentId, AttemptRef, SessionId};
use crate::job::JobState;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Amounts of what jobs share on a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    pub cpu_millis: u32,
    pub memory_bytes: u64,
    pub scratch_bytes: u64,
    pub gpus: u32,
}

/// What is on the machine; changes only when the machine does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Inventory {
    pub os: String,
    /// Docker's word: `amd64`, `arm64`. Also the built-in label `arch`.
    pub arch: String,
    pub kernel: String,
    /// `docker 20.10.24, API 1.41`.
    pub engine: String,
    /// NVIDIA driver version; empty: none.
    pub driver: String,
    /// The newest CUDA its driver runs, `12.4`; empty: none.
    pub cuda: String,
    pub total: Capacity,
    /// What jobs may have of it: the configured reserve is taken off.
    pub allocatable: Capacity,
    pub gpus: Vec<Gpu>,
    /// `sampled` or `hard`.
    pub disk_limit: String,
}

/// One GPU as NVML tells it now: a whole one, or an instance of one in MIG mode. What is granted has a UUID.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gpu {
    pub index: u32,
    pub uuid: String,
    pub model: String,
    pub memory_bytes: u64,
    pub memory_free_bytes: u64,
    pub utilisation_percent: u32,
    /// Short id of the job it is granted to.
    pub job: Option<String>,
    /// Why it is not free although no job of ours has it: `python of anna (pid 4711) holds 22 GiB`.
    pub busy: Option<String>,
    /// What makes it busy, where that is not for people alone.
    pub keeper: Option<Keeper>,
    /// Compute capability, major and minor.
    pub capability: Option<(u16, u16)>,
    /// The profile of a MIG instance, `1g.10gb`. A GPU in MIG mode is not offered itself.
    pub mig: Option<String>,
    /// UUID of the GPU this MIG instance is a part of.
    pub parent: Option<String>,
    /// GPUs of one machine with equal numbers are connected by NVLink.
    pub nvlink: Option<u32>,
    /// `00000000:3B:00.0`
    pub pci: String,
    pub numa: Option<u32>,
    /// Whether ECC is on; `None`: it has none, or does not say.
    pub ecc: Option<bool>,
    pub temperature_c: Option<u32>,
    pub power_watts: Option<u32>,
    pub power_limit_watts: Option<u32>,
    /// What slows it down: `thermal`, `power brake`.
    pub throttled: Vec<String>,
    /// Why it is set aside; `None`: it is healthy.
    pub health: Option<String>,
}

/// What lies on a machine that jobs would otherwise have to bring.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Holdings {
    /// As [`crate::job::canonical`] writes them.
    pub images: BTreeSet<String>,
    /// `project/name`.
    pub caches: BTreeSet<String>,
}

impl Holdings {
    /// Of each at most, the newest: a node that has more has what matters among these, and a heartbeat stays small.
    pub const MOST: usize = 500;
}

/// What makes a GPU busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keeper {
    /// Processes that are not of its job.
    Stranger,
    /// A job has just given it back: the next reading says whether it is free.
    Leaving,
}

/// How an agent presents itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentIdentity {
    pub id: AgentId,
    pub name: String,
    pub version: String,
    pub boot_id: String,
    pub session: SessionId,
    pub labels: BTreeMap<String, String>,
    pub pool: String,
}

/// What an agent would take right now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    pub free: Capacity,
    /// The free ones only.
    pub gpus: Vec<Gpu>,
    /// Grants wanted at most.
    pub slots: u32,
    pub labels: BTreeMap<String, String>,
    pub pool: String,
    pub lanes: Vec<crate::queue::Lane>,
}

/// An attempt an agent holds, as its heartbeat lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldAttempt {
    pub attempt: AttemptRef,
    pub phase: JobState,
    pub started_at: Option<Timestamp>,
    pub exited_at: Option<Timestamp>,
    pub usage: Usage,
    /// Of its image, as the registry names it; `None`: not known yet, or there is none.
    pub digest: Option<String>,
}

/// Begins the note of an attempt that was killed while its processes held nearly all the memory that they may.
pub const MEMORY_FULL: &str = "memory_full";

/// What an attempt used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub cpu_micros: u64,
    pub memory_peak_bytes: u64,
    pub disk_peak_bytes: u64,
    pub gpu: GpuUsage,
}

/// What an attempt used of its GPUs while it ran: memory over all of them, utilisation on average of them. All
/// zero: it had none, or they do not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GpuUsage {
    pub memory_peak_bytes: u64,
    pub memory_mean_bytes: u64,
    pub percent_peak: u32,
    pub percent_mean: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentState {
    Online,
    /// Its link is down, its leases live.
    Disconnected,
    /// Its leases have expired.
    Lost,
}

/// Why the controller tells an agent to stop an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The user asked; the text says who and why.
    Cancel(String),
    /// Fenced: it is another's now. Remove the container, report nothing.
    Revoke,
    /// The machine is drained: stop it and give the job back; the text says by whom and why.
    HandBack(String),
}

/// A job given to an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub attempt: AttemptRef,
    pub short_id: crate::ids::ShortId,
    pub project: String,
    pub spec: crate::job::JobSpec,
    pub lease: std::time::Duration,
    /// UUIDs out of the offer.
    pub gpus: Vec<String>,
    pub lane: crate::queue::Lane,
    pub cancel_requested: bool,
    /// There are secrets to fetch.
    pub sealed: bool,
}

/// What the controller says of a lane in answer to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneAnswer {
    Empty,
    /// And this agent could take it.
    More,
    MoreButNotForYou,
}

/// How an attempt ended, as the agent reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishReport {
    pub attempt: AttemptRef,
    pub outcome: crate::job::Outcome,
    /// What happened, to which thing.
    pub detail: String,
    /// End offset of the encoded log.
    pub log_end: u64,
    pub manifest_pages: u32,
    pub artifact_count: u64,
    pub artifact_bytes: u64,
    pub usage: Usage,
    pub started_at: Option<Timestamp>,
    pub exited_at: Option<Timestamp>,
    /// `oom_event: a child was killed for memory`.
    pub notes: Vec<String>,
    /// Of the image that ran, as the registry names it.
    pub digest: Option<String>,
}
