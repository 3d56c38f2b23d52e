//! The complete description of a job, every default filled in. Immutable once submitted.

use super::{
    after::After,
    kleinkram::{Access, KLEINKRAM, Kleinkram, MOST_PIDS},
    labels::AgentRule,
    resources::Resources,
    retry::RetryPolicy,
};
use crate::clock::Timestamp;
use crate::trigger::Origin;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// What the container runs in which image with which limits. Made by `job::file` (YAML, JSON), by the wire or by
/// the flags of `run`; all three end in `job::validate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// For people; not unique. `None`: the image's last path segment is shown.
    pub name: Option<String>,
    pub image: String,
    pub pull: PullPolicy,
    /// `plain` or `kleinkram`.
    pub contract: String,
    /// `None`: the image's.
    pub entrypoint: Option<Vec<String>>,
    /// `None`: the image's.
    pub command: Option<Vec<String>>,
    pub workdir: Option<String>,
    /// `uid[:gid]` or a name in the image.
    pub user: Option<String>,
    pub env: BTreeMap<String, String>,
    pub resources: Resources,
    pub network: NetworkMode,
    pub deadlines: Deadlines,
    pub retry: RetryPolicy,
    /// Larger runs first; -100 to 100.
    pub priority: i32,
    pub labels: BTreeMap<String, String>,
    /// Agent label to any of these values.
    pub agents: BTreeMap<String, Vec<String>>,
    /// And what else holds of agents' labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agent_rules: Vec<AgentRule>,
    /// Name to source; mounted read-only at `/in/<name>`.
    pub inputs: BTreeMap<String, Input>,
    pub outputs: Outputs,
    /// An operator's word for a set of agents.
    pub pool: String,
    /// The length of its lease: how long its agent may be out of touch before another gets the job. `None`: the
    /// cluster's.
    #[serde(default)]
    pub disconnect_tolerance: Option<Duration>,
    #[serde(default)]
    pub security: Security,
    /// Variable to the name of a secret. Never its value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_env: BTreeMap<String, String>,
    /// Name of a secret to the file that holds it, in [`SECRETS_FOLDER`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_files: BTreeMap<String, String>,
    /// Name to an absolute path in the container: a folder of the project's on this machine, kept between jobs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub caches: BTreeMap<String, String>,
    /// Every attempt runs the digest that the first one ran.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pin: bool,
    /// Jobs that must have ended before it begins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<After>,
    /// It begins then at the earliest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// What contract `kleinkram` tells the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kleinkram: Option<Kleinkram>,
    /// What the run key of a contract that has one may do.
    #[serde(default, skip_serializing_if = "Access::is_default")]
    pub access: Access,
    /// Of a job that a trigger started. No message carries it: nobody else can say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Origin>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    /// An untagged or `latest` image is checked at every run, the local copy serving if the registry is silent;
    /// any other tag or digest that is present is used as it is.
    #[default]
    Auto,
    Always,
    Missing,
    Never,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    #[default]
    Bridge,
    /// Public addresses only: private and link-local ranges are closed, but for those the operator opens.
    Internet,
    None,
}

/// What the container may do to its kernel; the later one may less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Security {
    /// Docker's own capabilities less those that no job needs.
    #[default]
    Baseline,
    /// No capability at all, also as root.
    Restricted,
}

/// How long each part may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadlines {
    /// From submit to the first claim; `None`: for ever.
    pub queue: Option<Duration>,
    pub prepare: Duration,
    pub run: Duration,
    pub upload: Duration,
    /// Between SIGTERM and SIGKILL.
    pub stop_grace: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            queue: None,
            // A 20 GiB image over a slow line.
            prepare: Duration::from_secs(30 * 60),
            // Every run has an end, so that the fleet can be drained and reserved.
            run: Duration::from_secs(24 * 3600),
            upload: Duration::from_secs(3600),
            // Docker's own default.
            stop_grace: Duration::from_secs(10),
        }
    }
}

/// Where a named input comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// Files stored before (`Jobs.CreateInput`), by the digest of their list.
    Uploaded {
        id: String,
    },
    /// The committed outputs of a job, or a folder or file of them.
    Job {
        job: String,
        path: String,
    },
    /// One file, fetched by the agent: `https://`, or an object of an operator's source.
    Url {
        url: String,
    },
    Share(ShareInput),
}

impl Input {
    /// The beginning of an address that means an object of an operator's source, which only triggers give.
    pub const OBJECT: &str = "object://";

    /// Whether it is an object of an operator's source. Its address comes from the controller, signed.
    pub fn is_object(&self) -> bool {
        matches!(self, Self::Url { url } if url.starts_with(Self::OBJECT))
    }
}

/// A folder of the machine, by the operator's word for it. Nothing is copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareInput {
    pub share: String,
    /// Of it; empty: all.
    pub path: String,
    pub writable: bool,
}

/// The label of a machine that has this share.
pub fn share_label(share: &str) -> String {
    format!("share.{share}")
}

/// The value of that label: `writable`, or `read-only:bern,lab` for jobs of these projects alone.
pub fn share_value(writable: bool, projects: &[String]) -> String {
    let may = if writable { SHARE_WRITABLE } else { SHARE_READ_ONLY };
    if projects.is_empty() { may.to_owned() } else { format!("{may}:{}", projects.join(",")) }
}

/// What such a value means to jobs of this project: whether they may write, or `None` if it is not for them.
pub fn share_access(value: &str, project: &str) -> Option<bool> {
    let (may, projects) =
        value.split_once(':').map_or((value, None), |(may, projects)| (may, Some(projects)));
    let is_for = projects.is_none_or(|projects| projects.split(',').any(|one| one == project));
    is_for.then_some(may == SHARE_WRITABLE)
}

/// What the label's value begins with.
pub const SHARE_READ_ONLY: &str = "read-only";
pub const SHARE_WRITABLE: &str = "writable";

/// Which files of `/out` are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outputs {
    /// Globs; empty: all.
    pub include: Vec<String>,
    pub exclude: Vec<String>,
    pub max_size_bytes: u64,
    pub max_files: u64,
}

/// Files of one attempt at most, whatever `max_files` says: each is a line of several lists.
pub const MOST_FILES: u64 = 10_000_000;

impl Default for Outputs {
    fn default() -> Self {
        Self {
            include: Vec::new(),
            exclude: Vec::new(),
            // Larger than the default scratch: the disk limit ends a job first.
            max_size_bytes: 1 << 40,
            // A million names is a mistake, not a result.
            max_files: 1_000_000,
        }
    }
}

impl JobSpec {
    /// A spec with every default, for an image.
    pub fn for_image(image: impl Into<String>) -> Self {
        Self {
            name: None,
            image: image.into(),
            pull: PullPolicy::Auto,
            contract: PLAIN.to_owned(),
            entrypoint: None,
            command: None,
            workdir: None,
            user: None,
            env: BTreeMap::new(),
            resources: Resources::default(),
            network: NetworkMode::Bridge,
            deadlines: Deadlines::default(),
            retry: RetryPolicy::default(),
            priority: 0,
            labels: BTreeMap::new(),
            agents: BTreeMap::new(),
            agent_rules: Vec::new(),
            inputs: BTreeMap::new(),
            outputs: Outputs::default(),
            pool: DEFAULT_POOL.to_owned(),
            disconnect_tolerance: None,
            security: Security::Baseline,
            secret_env: BTreeMap::new(),
            secret_files: BTreeMap::new(),
            caches: BTreeMap::new(),
            pin: false,
            after: Vec::new(),
            not_before: None,
            kleinkram: None,
            access: Access::Read,
            trigger: None,
        }
    }

    /// Names of the secrets it uses.
    pub fn secrets(&self) -> BTreeSet<&str> {
        let key = self.kleinkram.iter().filter_map(|said| said.key.as_ref());
        self.secret_env.values().chain(self.secret_files.keys()).chain(key).map(String::as_str).collect()
    }

    /// What its contract demands, and takes for granted where the job says nothing.
    pub fn settle(&mut self, pids_said: bool) {
        if self.contract != KLEINKRAM {
            return;
        }
        self.security = self.security.max(Security::Restricted);
        self.kleinkram.get_or_insert_default();
        if !pids_said {
            self.resources.pids = MOST_PIDS;
        }
    }

    /// Whether each of its attempts gets a run key that is made for it.
    pub fn mints_key(&self) -> bool {
        self.contract == KLEINKRAM && self.kleinkram.as_ref().is_none_or(|said| said.key.is_none())
    }

    /// Whether what the container writes into its own files counts against its memory limit.
    pub fn files_in_memory(&self) -> bool {
        self.contract == KLEINKRAM && self.kleinkram.as_ref().is_none_or(|said| said.files_in_memory)
    }

    /// The queue of all jobs of this pool that ask for the same class of resources.
    pub fn lane(&self) -> crate::queue::Lane {
        match &self.resources.gpu {
            Some(gpu) if gpu.shared => crate::queue::Lane::shared(&self.pool),
            gpu => crate::queue::Lane::new(&self.pool, gpu.is_some()),
        }
    }
}

/// The default contract: run the container, wait, collect `/out`.
pub const PLAIN: &str = "plain";
pub const DEFAULT_POOL: &str = "default";
/// Where the files of secrets are in a container.
pub const SECRETS_FOLDER: &str = "/run/secrets";
