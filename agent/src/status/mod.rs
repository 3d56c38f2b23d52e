//! What this machine does, told on the node itself: by a socket, without a controller or a token. Only tells; whoever
//! may open the socket may read it.

mod socket;

pub use socket::{NAME, path};

pub(crate) use socket::serve;

use crate::{
    attempt::Held,
    caches::{Caches, Kept},
    link::Reporter,
    machine::Machine,
};
use longshore_common::{
    agent::{AgentIdentity, Capacity},
    clock::Timestamp,
    fleet::Orders,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::sync::watch;

/// Everything that is told, as it is read by scripts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    pub name: String,
    pub id: String,
    pub version: String,
    pub pool: String,
    pub since: String,
    pub controller: String,
    pub link: Link,
    /// `cordoned by anna until 18:00 UTC: booked`; empty: not.
    pub cordon: String,
    /// Why nothing is claimed, or what else is to be known.
    pub note: String,
    pub free: Capacity,
    pub for_jobs: Capacity,
    pub gpus: Vec<Gpu>,
    pub jobs: Vec<Job>,
    pub caches: Vec<Cache>,
    /// What all caches may have together.
    pub caches_bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cache {
    pub project: String,
    pub name: String,
    pub bytes: u64,
    pub last_used: String,
    /// Attempts that have it now.
    pub users: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Link {
    pub up: bool,
    pub since: String,
    /// The last one, with its time; empty: none since the agent began.
    pub last_error: String,
    pub last_error_at: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gpu {
    pub index: u32,
    pub uuid: String,
    pub model: String,
    pub memory_bytes: u64,
    pub memory_free_bytes: u64,
    pub job: String,
    pub project: String,
    /// Why it is not free although no job has it.
    pub busy: String,
    /// Why it is set aside as sick.
    pub health: String,
    pub cordon: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Job {
    pub job: String,
    pub project: String,
    pub attempt: u32,
    pub phase: String,
    /// When its container was started.
    pub started: String,
    /// UUIDs.
    pub gpus: Vec<String>,
}

impl From<Kept> for Cache {
    fn from(kept: Kept) -> Self {
        let Kept { key, bytes, last_used, users } = kept;
        Self { project: key.project, name: key.name, bytes, last_used: last_used.to_rfc3339(), users }
    }
}

/// How the link is, as `control` hears it.
#[derive(Clone, Debug)]
pub(crate) struct LinkNews {
    pub(crate) up: bool,
    pub(crate) since: Timestamp,
    pub(crate) last_error: Option<(Timestamp, String)>,
}

impl LinkNews {
    pub(crate) fn new() -> Self {
        Self { up: false, since: Timestamp::now(), last_error: None }
    }

    pub(crate) fn connected(&mut self) {
        (self.up, self.since) = (true, Timestamp::now());
    }

    /// Also told of each try of one that was down already.
    pub(crate) fn disconnected(&mut self, reason: String) {
        let now = Timestamp::now();
        if std::mem::replace(&mut self.up, false) {
            self.since = now;
        }
        self.last_error = Some((now, reason));
    }
}

/// Where it is read from.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    pub(crate) identity: AgentIdentity,
    pub(crate) controller: String,
    pub(crate) since: Timestamp,
    pub(crate) machine: Arc<Machine>,
    pub(crate) held: Held,
    pub(crate) caches: Caches,
    pub(crate) link: watch::Receiver<LinkNews>,
    pub(crate) orders: watch::Receiver<Orders>,
}

impl Sources {
    pub(crate) fn status(&self) -> Status {
        let (report, now) = (self.machine.report(), Timestamp::now());
        let (orders, link) = (self.orders.borrow().clone(), self.link.borrow().clone());
        let jobs = self.held.jobs();
        let project = |job: &str| {
            let known = jobs.iter().find(|known| known.job == job);
            known.map(|known| known.project.clone()).unwrap_or_default()
        };
        let gpu = |gpu: &longshore_common::agent::Gpu| {
            let job = gpu.job.clone().unwrap_or_default();
            Gpu {
                index: gpu.index,
                uuid: gpu.uuid.clone(),
                model: gpu.model.clone(),
                memory_bytes: gpu.memory_bytes,
                memory_free_bytes: gpu.memory_free_bytes,
                project: project(&job),
                job,
                busy: gpu.busy.clone().unwrap_or_default(),
                health: gpu.health.clone().unwrap_or_default(),
                cordon: orders.of_gpu(gpu).map(|cordon| cordon.sentence(now)).unwrap_or_default(),
            }
        };
        let error = link.last_error.unwrap_or_else(|| (now, String::new()));
        Status {
            name: self.identity.name.clone(),
            id: self.identity.id.to_string(),
            version: self.identity.version.clone(),
            pool: self.identity.pool.clone(),
            since: self.since.to_rfc3339(),
            controller: self.controller.clone(),
            link: Link {
                up: link.up,
                since: link.since.to_rfc3339(),
                last_error_at: if error.1.is_empty() { String::new() } else { error.0.to_rfc3339() },
                last_error: error.1,
            },
            cordon: orders.cordon.as_ref().map(|cordon| cordon.sentence(now)).unwrap_or_default(),
            note: report.note,
            free: report.free,
            for_jobs: self.machine.inventory().allocatable,
            gpus: report.gpus.iter().map(gpu).collect(),
            jobs,
            caches: self.caches.list().into_iter().map(Cache::from).collect(),
            caches_bytes: self.caches.bounds(self.machine.data_disk().total_bytes).0,
        }
    }
}
