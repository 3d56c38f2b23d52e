//! Settings of the container runtime. Defaults stand here once, each with its reason.

use longshore_common::job::{NetworkMode, Security};
use serde::{Deserialize, Serialize};
use std::{fmt, net::Ipv4Addr, num::NonZeroU32, path::PathBuf, time::Duration};

/// `[runtime]` of the agent's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub kind: Kind,
    /// `unix:///path`; `None`: `DOCKER_HOST`, else Docker's own default.
    pub host: Option<String>,
    pub registries: Vec<Login>,
    /// Docker's `config.json`, whose logins and credential helpers serve where `registries` has none; `None`:
    /// `$DOCKER_CONFIG`'s, else root's own.
    pub docker_config: Option<PathBuf>,
    /// What one container's log may hold on the engine's side; more than a job's own cap.
    pub engine_log_bytes: u64,
    /// Containers created, started and removed at one time; the rest waits its turn.
    pub calls_at_once: NonZeroU32,
    pub disk_limit: DiskLimit,
    pub network: NetworkConfig,
    pub pull: PullConfig,
    /// The least that containers are locked in here: `baseline` or `restricted`; a job may ask for more.
    pub security: Security,
    /// Another OCI runtime that the engine has, such as `runsc` or `kata`; `None`: the engine's own.
    pub oci_runtime: Option<String>,
    /// How the engine is asked for GPUs.
    pub gpus: GpuBy,
    /// Devices of the node that every container gets. Jobs cannot ask for any.
    pub devices: Vec<Device>,
    /// Folders of the node that every container gets. Jobs cannot ask for any.
    pub mounts: Vec<HostMount>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// `/dev/fuse`; the same inside.
    pub path: PathBuf,
    /// Of `r`, `w` and `m` (make nodes).
    #[serde(default = "read_and_write")]
    pub permissions: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostMount {
    /// On the node.
    pub host: PathBuf,
    pub container: PathBuf,
    #[serde(default)]
    pub writable: bool,
}

fn read_and_write() -> String {
    "rw".to_owned()
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    #[default]
    Docker,
    /// No containers: runs what the job's environment scripts. For measuring everything else.
    Null,
}

/// In which way containers get GPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GpuBy {
    /// By what the engine has.
    #[default]
    Auto,
    /// Docker's request to NVIDIA's container toolkit.
    Nvidia,
    /// The Container Device Interface; `nvidia-ctk cdi generate` lists the devices, with their UUIDs.
    Cdi,
}

/// What keeps a container within its scratch limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskLimit {
    /// Hard where the node has all it takes, sampled elsewhere.
    #[default]
    Auto,
    /// Hard as far as the node has what it takes; what it lacks is said.
    Hard,
    /// Measured, and ended when it took too much.
    Sampled,
}

/// A registry's credentials. Those of root's own `docker login` serve too.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// `registry.example:5000`; Docker Hub is `docker.io`.
    pub registry: String,
    pub username: String,
    pub password: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkConfig {
    pub firewall: Firewall,
    /// `10.88.0.0/16`; `None`: the engine chooses one that no route of the host has.
    pub subnet: Option<String>,
    /// The most that containers reach: `bridge`, `internet` or `none`; a job may ask for less.
    pub egress: NetworkMode,
    /// Addresses like `10.1.2.0/24` that count as public: jobs with `network: internet` reach them.
    pub internet_and: Vec<Block>,
}

/// A block of IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Block {
    first: Ipv4Addr,
    prefix: u8,
}

impl Block {
    pub(crate) const fn contains(self, address: Ipv4Addr) -> bool {
        let differs = address.to_bits() ^ self.first.to_bits();
        self.prefix == 0 || differs >> (32 - self.prefix) == 0
    }
}

impl TryFrom<String> for Block {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (first, prefix) = text.split_once('/').unwrap_or((&text, "32"));
        match (first.parse(), prefix.parse()) {
            (Ok(first), Ok(prefix @ 0..=32)) => Ok(Self { first, prefix }),
            _ => Err(format!("`{text}` is not a block of IPv4 addresses, like 10.1.2.0/24")),
        }
    }
}

impl From<Block> for String {
    fn from(block: Block) -> Self {
        block.to_string()
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

/// What an agent does that cannot keep containers away from its host's services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firewall {
    /// It claims nothing and says why.
    #[default]
    Required,
    /// It works on and says why.
    BestEffort,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PullConfig {
    /// A pull without any progress for this long is cut, in seconds.
    pub stall_seconds: u64,
    /// How long a registry may stay silent before the local copy serves, in seconds.
    pub silence_seconds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            kind: Kind::Docker,
            host: None,
            registries: Vec::new(),
            docker_config: None,
            // A job's log is capped at 256 MiB by default; the engine must be able to repeat all of it.
            engine_log_bytes: 320 << 20,
            // Measured: 4, 8 and 40 run 120 short containers in the same time; some engines lock up under hundreds.
            calls_at_once: NonZeroU32::new(8).expect("it is not zero"),
            // A sized file system costs a start about 20 ms: worth it only where nothing is left to overshoot.
            disk_limit: DiskLimit::Auto,
            network: NetworkConfig::default(),
            pull: PullConfig::default(),
            // Most images change users or owners while they start, which takes capabilities.
            security: Security::Baseline,
            oci_runtime: None,
            gpus: GpuBy::Auto,
            // What an operator does not open stays shut.
            devices: Vec::new(),
            mounts: Vec::new(),
        }
    }
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            // Without rules a container reaches every service of its host, cloud credentials among them.
            firewall: Firewall::Required,
            subnet: None,
            // Labs keep their data servers in private ranges.
            egress: NetworkMode::Bridge,
            internet_and: Vec::new(),
        }
    }
}

impl Default for PullConfig {
    fn default() -> Self {
        Self {
            // Unpacking a large layer on a slow disk is silent for a minute or two.
            stall_seconds: 300,
            // Longer than a slow registry's first answer, short beside any job.
            silence_seconds: 15,
        }
    }
}

impl PullConfig {
    pub(crate) const fn stall(&self) -> Duration {
        Duration::from_secs(self.stall_seconds)
    }

    pub(crate) const fn silence(&self) -> Duration {
        Duration::from_secs(self.silence_seconds)
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("registry", &self.registry)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}
