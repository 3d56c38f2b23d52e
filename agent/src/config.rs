//! `agent.toml`: every setting of an agent, each with its default and the reason. Reads no file and no environment;
//! the binary's configuration layers do.

use crate::{artifacts, caches, exec, gpus, host, images, inputs, logs, machine, runtime, shares::Share};
use longshore_common::job::spec::DEFAULT_POOL;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, path::PathBuf};

#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentConfig {
    /// `https://controller:7420`
    pub controller: String,
    /// Makes this machine an agent at its first start; good for nothing afterwards.
    pub join_token: String,
    /// `None`: the machine's name.
    pub name: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub pool: String,
    pub data_dir: PathBuf,
    /// Attempts held at once, whatever they ask for; `None`: by the runtime.
    pub max_attempts: Option<u32>,
    /// `None`: as the controller says.
    pub heartbeat_seconds: Option<u64>,
    /// What becomes of running containers when the agent is told to stop.
    pub on_shutdown: OnShutdown,
    /// With `drain`: how long a stopping agent waits for its attempts to end by themselves.
    pub shutdown_grace_seconds: u64,
    /// Then: between SIGTERM and SIGKILL of what still runs; a job's shorter grace wins.
    pub stop_grace_seconds: u64,
    /// Then: how long files of containers that have ended may still go up. What is not stored by then is stored by the
    /// agent's next process.
    pub shutdown_upload_seconds: u64,
    /// Members of this group may ask for `longshore agent status` too; `None`: root alone.
    pub status_group: Option<String>,
    /// The weakest layer of a container's environment: proxies, mostly.
    pub container_env: BTreeMap<String, String>,
    pub capacity: machine::Config,
    pub host: host::Config,
    pub gpus: gpus::Config,
    pub runtime: runtime::Config,
    pub logs: logs::Config,
    pub artifacts: artifacts::Config,
    pub inputs: inputs::Config,
    pub images: images::Config,
    pub exec: exec::Config,
    pub caches: caches::Config,
    /// Folders that jobs may mount by name.
    pub shares: Vec<Share>,
}

/// What an agent that is told to stop does with what it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnShutdown {
    /// Containers run on; the agent's next process takes them over. Started again within the jobs' lease, nothing of
    /// them is lost.
    #[default]
    Leave,
    /// Waits a grace, then stops what still runs and hands it back to the queue.
    Drain,
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            controller: "http://127.0.0.1:7420".to_owned(),
            join_token: String::new(),
            name: None,
            labels: BTreeMap::new(),
            pool: DEFAULT_POOL.to_owned(),
            data_dir: PathBuf::from("/var/lib/longshore/agent"),
            max_attempts: None,
            heartbeat_seconds: None,
            // An upgrade or a restart must not cost a run of hours.
            on_shutdown: OnShutdown::Leave,
            // Short jobs end, long ones are not what a restart should wait for; 15 s in all stays far below the
            // 90 s after which service managers kill.
            shutdown_grace_seconds: 10,
            stop_grace_seconds: 5,
            // Still below those 90 s, with the rest.
            shutdown_upload_seconds: 30,
            // It names others' jobs and projects.
            status_group: None,
            container_env: BTreeMap::new(),
            capacity: machine::Config::default(),
            host: host::Config::default(),
            gpus: gpus::Config::default(),
            runtime: runtime::Config::default(),
            logs: logs::Config::default(),
            artifacts: artifacts::Config::default(),
            inputs: inputs::Config::default(),
            images: images::Config::default(),
            exec: exec::Config::default(),
            caches: caches::Config::default(),
            // What an operator does not open stays shut.
            shares: Vec::new(),
        }
    }
}

impl AgentConfig {
    /// A container costs the engine about 30 MiB and several processes; without containers only the size of a
    /// heartbeat counts.
    pub(crate) const fn attempts_at_most(&self) -> u32 {
        match (self.max_attempts, self.runtime.kind) {
            (Some(limit), _) => limit,
            (None, runtime::Kind::Docker) => 256,
            (None, runtime::Kind::Null) => 512,
        }
    }
}

/// Without the token.
impl fmt::Debug for AgentConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentConfig")
            .field("controller", &self.controller)
            .field("name", &self.name)
            .field("pool", &self.pool)
            .field("data_dir", &self.data_dir)
            .finish_non_exhaustive()
    }
}
