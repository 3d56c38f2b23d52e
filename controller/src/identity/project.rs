//! A tenant and its settings.

use longshore_common::{
    clock::Timestamp,
    job::{ImagePolicy, Kleinkram},
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    pub name: String,
    pub settings: Settings,
    pub created_at: Timestamp,
}

/// What an admin sets. Stored as JSON: absent fields are the defaults, and unknown ones are of a later version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    pub quotas: Quotas,
    /// Beside the controller's own.
    pub images: ImagePolicy,
    /// Of ended jobs; `None`: the controller's.
    pub retention: Option<Duration>,
    /// Of its fair share beside others'.
    pub weight: Weight,
    /// Who may start a process in a running job's container.
    pub exec: ExecPolicy,
    pub kleinkram: KleinkramSettings,
}

/// Who may start another process in the container of a running job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecPolicy {
    Off,
    /// What is typed into a container is in no job's spec and in no log, and whoever types it sees the job's secrets: by
    /// default only those may who set the secrets.
    #[default]
    Operator,
    /// Whoever submitted the job, beside operators.
    Own,
}

/// What jobs under contract `kleinkram` get that do not say it themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KleinkramSettings {
    pub project_uuid: Option<String>,
    pub api_endpoint: Option<String>,
    pub s3_endpoint: Option<String>,
    /// Of the controller's configuration: makes the run keys.
    pub minter: Option<String>,
}

impl KleinkramSettings {
    /// As a job would say it.
    pub fn usual(&self) -> Kleinkram {
        Kleinkram {
            project_uuid: self.project_uuid.clone(),
            api_endpoint: self.api_endpoint.clone(),
            s3_endpoint: self.s3_endpoint.clone(),
            ..Kleinkram::default()
        }
    }
}

/// How much of a contended fleet a project has beside one of weight 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Weight(u32);

impl Default for Weight {
    fn default() -> Self {
        Self(1)
    }
}

impl Weight {
    pub const MOST: u32 = 1000;

    /// `None`: it is not between 1 and [`Self::MOST`].
    pub fn new(weight: u32) -> Option<Self> {
        (1..=Self::MOST).contains(&weight).then_some(Self(weight))
    }
}

impl From<Weight> for u32 {
    fn from(weight: Weight) -> Self {
        weight.0
    }
}

/// `None`: no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Quotas {
    /// Jobs that wait.
    pub queued: Option<u64>,
    /// Jobs that an agent has, and what they hold.
    pub running: Option<u64>,
    pub cpu_millis: Option<u64>,
    pub memory: Option<u64>,
    pub gpus: Option<u64>,
    /// Bytes of artifacts that are kept.
    pub storage: Option<u64>,
}

impl Project {
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), settings: Settings::default(), created_at: Timestamp::now() }
    }
}
