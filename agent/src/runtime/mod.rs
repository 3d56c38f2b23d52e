//! Containers behind one seam: create, follow, wait, stop, remove. Knows nothing of jobs' states or the
//! controller; the attempt runner drives it. Implementations: `docker` (real), `fake` (scripted by the spec, for
//! tests and for measuring everything but the engine). Both pass `contract`.

mod config;
#[doc(hidden)]
pub mod contract;
pub mod docker;
pub mod fake;
pub mod sweep;

pub use config::{
    Block, Config, Device, DiskLimit, Firewall, GpuBy, HostMount, Kind, Login, NetworkConfig, PullConfig,
};

use crate::{
    secrets::{RegistryLogin, Value},
    shares::Pins,
    sized,
};
use async_trait::async_trait;
use bytes::Bytes;
use longshore_common::{
    agent::Usage,
    clock::{Moment, Timestamp},
    exec::{Size, Start},
    ids::{AgentId, AttemptRef, ClusterId, ShortId},
    job::{NetworkMode, Outcome, PullPolicy, Resources, Security},
    logs::Stream,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};
use tokio::{io::AsyncWrite, sync::mpsc};

/// The engine of this node.
#[async_trait]
pub trait Runtime: Send + Sync + fmt::Debug {
    /// What the engine is (`docker 20.10.24, API 1.41`), or why it does not answer.
    async fn describe(&self) -> Result<EngineInfo, Error>;

    /// Makes the image present by policy. `progress` gets lines for the log's `system` stream. Concurrent calls
    /// for one image are one pull.
    async fn ensure_image(&self, request: &ImageRequest, progress: &Progress) -> Result<Image, Error>;

    /// Whether the image's registry gives it to whoever has these credentials.
    async fn check_image(&self, _request: &ImageRequest) -> Result<(), Error> {
        Ok(())
    }

    /// Names of the images that are here, as `canonical` writes them, the newest and so many at most; `None`: it does
    /// not say.
    async fn images(&self, _most: usize) -> Result<Option<BTreeSet<String>>, Error> {
        Ok(None)
    }

    /// Removes an image that was pulled for us under these names. What a container, a name of somebody else's or
    /// another image needs stays.
    async fn remove_image(&self, image: &ImageId, names: &BTreeSet<String>) -> Result<Removal, Error>;

    /// Makes scratch folders and the container, not started. A container of the same attempt that is already there
    /// is adopted. A call that nobody waits for any more goes on; what it makes is listed.
    async fn create(&self, spec: &ContainerSpec) -> Result<ContainerId, Error>;

    /// Attaches, then starts. Output arrives through `Output`, byte-exact, until both streams have ended. A call that
    /// nobody waits for any more goes on; the next one joins it.
    async fn start(&self, container: &ContainerId) -> Result<Output, Error>;

    /// Takes over a container that an earlier process made: starts it if it never was. Its output goes on after the
    /// bytes that were `seen`, whatever the container did meanwhile. `began`: when that process started it, if it said.
    async fn attach(
        &self,
        container: &ContainerId,
        seen: Counts,
        began: Option<Moment>,
    ) -> Result<Attached, Error>;

    /// Since when the container runs; `None`: it does not.
    async fn runs_since(&self, container: &ContainerId) -> Result<Option<Timestamp>, Error>;

    /// Returns when the container has ended. A stream that closed, or an engine that went away, is not an end.
    async fn wait(&self, container: &ContainerId) -> Result<Exit, Error>;

    /// SIGTERM, the grace, SIGKILL. Returns when the container has ended, or a minute after SIGKILL with `Stuck`.
    async fn stop(&self, container: &ContainerId, grace: Duration) -> Result<(), Error>;

    /// Another process in a running container. Its end leaves nothing of it behind, whoever it has started.
    async fn exec(&self, _container: &ContainerId, _start: &Start) -> Result<Inside, Error> {
        Err(Error::ends(Outcome::RuntimeError, "this runtime starts nothing in a container that runs"))
    }

    /// What the container uses now, and its disk use over writable layer, `/tmp_disk` and `/out`. Ends with
    /// `disk_limit` if the container keeps that from being measured.
    async fn usage(&self, container: &ContainerId) -> Result<Sample, Error>;

    /// Removes container and scratch, and returns when both are gone. Removing what is gone is fine.
    async fn remove(&self, container: &ContainerId) -> Result<(), Error>;

    /// Containers with this cluster's and agent's labels.
    async fn list(&self) -> Result<Vec<Known>, Error>;

    /// Makes the network of this agent's containers, asserts its firewall rules, and tries them out. To be called
    /// before the first claim and now and then.
    async fn prepare_network(&self) -> Result<(), NetworkProblem> {
        Ok(())
    }

    /// Whether the engine sees what this process mounts.
    async fn sees_mounts(&self) -> bool {
        true
    }

    /// The agent's process ends: takes back what it made on the node beside containers. What a running container
    /// needs stays.
    async fn leave(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// The kernel's or the compiler's word for a processor to Docker's.
fn docker_arch(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "armv7l" => "arm",
        other => other,
    }
}

/// What is wrong with the network of this agent's containers: the agent's note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkProblem {
    pub detail: String,
    /// The operator said so (`network.firewall = "best-effort"`).
    pub may_claim: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineInfo {
    /// `docker 20.10.24, API 1.41`
    pub name: String,
    /// `amd64`, `arm64`
    pub arch: String,
    /// Where writable layers live, for the disk's free space.
    pub data_root: PathBuf,
    /// `sampled`, `hard`, or what of it is which.
    pub disk_limit: String,
    /// What the operator should know although containers can run.
    pub warning: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRequest {
    pub image: String,
    pub policy: PullPolicy,
    /// Whose job wants it.
    pub project: String,
    /// The project's credentials for the image's registry; `None`: the node's own serve.
    pub login: Option<RegistryLogin>,
}

/// An image that is on the node now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub id: ImageId,
    /// It was not here under any name until this very call brought it.
    pub pulled: bool,
    /// Its registry was asked just now, with the credentials of the request, and gave it.
    pub asked: bool,
    /// The names with digests that registries gave it; none: it was built here.
    pub given_as: Vec<String>,
    /// Who it runs as unless the job says otherwise.
    pub user: String,
    /// As its registry names it, `sha256:…`; `None`: no registry does, by the name that was asked for.
    pub digest: Option<String>,
}

/// What became of an image that was to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is not on the node any more. Its layers may be others' too: this is what can have been freed at most.
    Gone { bytes: u64 },
    /// A container or another image is made of it.
    Needed,
    /// Somebody gave it a name of their own: it is theirs now.
    Theirs,
}

/// Digest or engine id of the image that will run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageId(pub String);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ContainerId(pub String);

/// Lines about progress, for the log. Sending never blocks: what does not fit is dropped.
#[derive(Clone, Debug)]
pub struct Progress(mpsc::Sender<String>);

impl Progress {
    pub fn new(lines: mpsc::Sender<String>) -> Self {
        Self(lines)
    }

    pub fn say(&self, line: impl Into<String>) {
        // A full channel means the reader is behind: progress may be dropped, never waited for.
        drop(self.0.try_send(line.into()));
    }
}

/// Everything the engine needs to know of one attempt's container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSpec {
    pub attempt: AttemptRef,
    pub short_id: ShortId,
    pub cluster: ClusterId,
    pub agent: AgentId,
    pub image: ImageId,
    /// The name the job gave, for labels and messages.
    pub image_name: String,
    pub entrypoint: Option<Vec<String>>,
    pub command: Option<Vec<String>>,
    pub workdir: Option<String>,
    pub user: Option<String>,
    pub env: BTreeMap<String, String>,
    pub resources: Resources,
    /// UUIDs.
    pub gpus: Vec<String>,
    pub network: NetworkMode,
    pub security: Security,
    pub stop_grace: Duration,
    pub scratch: Scratch,
    pub secrets: SecretMounts,
    pub shares: Pins,
    /// Path in the container to folder, writable.
    pub caches: BTreeMap<String, PathBuf>,
    /// What it writes into its own files counts against its memory limit.
    pub files_in_memory: bool,
}

/// What a container is told and nobody else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretMounts {
    /// Variables; they come before all others.
    pub env: BTreeMap<String, Value>,
    /// Mounted read-only at `/run/secrets`.
    pub folder: Option<PathBuf>,
    /// Mounted read-only at `/run/longshore`.
    pub told: Option<PathBuf>,
}

/// Folders of one attempt on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scratch {
    /// Mounted at `/out`, writable for any user of the image.
    pub out: PathBuf,
    /// Mounted at `/tmp_disk`, on disk, outside the memory limit.
    pub tmp: PathBuf,
    /// Input name to folder, mounted read-only at `/in/<name>`.
    pub inputs: BTreeMap<String, PathBuf>,
}

impl Scratch {
    /// The folders of an attempt below the agent's scratch folder. Only the runtime deletes them.
    pub fn of(root: &Path, attempt: AttemptRef, inputs: impl IntoIterator<Item = String>) -> Self {
        let own = root.join(attempt.to_string());
        let input = |name: String| (name.clone(), own.join("in").join(name));
        Self::within(&own, inputs.into_iter().map(input).collect())
    }

    /// The folders of the attempt that `own` is the folder of.
    pub fn within(own: &Path, inputs: BTreeMap<String, PathBuf>) -> Self {
        let disk = own.join(sized::FOLDER);
        Self { out: disk.join("out"), tmp: disk.join("tmp"), inputs }
    }

    /// What may be a file system of its own: holds `/out` and `/tmp_disk`, nothing else.
    pub(crate) fn disk(out: &Path) -> Option<&Path> {
        out.parent()
    }

    /// The attempt's own folder.
    pub(crate) fn home(out: &Path) -> Option<&Path> {
        out.ancestors().nth(2)
    }
}

/// The name of an attempt's own folder.
pub(crate) fn folder_name(job: &ShortId, attempt: &AttemptRef) -> String {
    format!("{job}.{}", try_name(attempt))
}

/// What tells the attempts of a job apart, in names. After a restored backup they are counted again from there.
pub(crate) fn try_name(attempt: &AttemptRef) -> String {
    match attempt.epoch.0 {
        1 => attempt.number.to_string(),
        epoch => format!("{}.{epoch}", attempt.number),
    }
}

/// Output of a container: chunks as the engine delivers them; the channel closes when both streams have ended.
#[derive(Debug)]
pub struct Output(pub mpsc::Receiver<Chunk>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    pub stream: Stream,
    pub data: Bytes,
}

/// A process beside the one that the container was started with.
pub struct Inside {
    /// Ends when the process has, or when nobody holds its streams open any more.
    pub output: Output,
    /// `None`: it has no input. Closed by its shutdown.
    pub input: Option<Pin<Box<dyn AsyncWrite + Send>>>,
    pub process: Arc<dyn Process>,
}

impl fmt::Debug for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inside").field("process", &self.process).finish_non_exhaustive()
    }
}

#[async_trait]
pub trait Process: Send + Sync + fmt::Debug {
    /// Its terminal has another size now.
    async fn resize(&self, size: Size) -> Result<(), Error>;

    /// Returns when it has ended.
    async fn exit(&self) -> Result<i32, Error>;

    /// Ends it with all that it has started, and returns when nothing of it is left. Of one that has ended, too.
    async fn kill(&self) -> Result<(), Error>;
}

/// Bytes of each output stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub stdout: u64,
    pub stderr: u64,
}

impl Counts {
    pub const fn of(&mut self, stream: Stream) -> &mut u64 {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr | Stream::System => &mut self.stderr,
        }
    }
}

/// A container that was taken over.
#[derive(Debug)]
pub struct Attached {
    pub output: Output,
    pub started_at: Timestamp,
}

/// How a container ended, as the engine tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    pub code: i32,
    /// The engine's flag: some process in the container was killed for memory.
    pub oom_flag: bool,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    /// The engine went away while the container ran and took it along.
    pub engine_restarted: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    pub usage: Usage,
    /// Working set: page cache that can be dropped is not in it.
    pub memory_bytes: u64,
    pub disk_bytes: u64,
    /// Of these, the container's own files: its writable layer and the volumes of its image.
    pub own_bytes: u64,
    /// Memory that nothing but its end gives back: page cache of files is not in it.
    pub held_bytes: u64,
    /// It has a hard limit and nothing more goes in.
    pub disk_full: bool,
    /// Whether its control group lets it open GPUs; `None`: that is not to be seen.
    pub opens_gpus: Option<bool>,
}

/// A container of ours found on the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub container: ContainerId,
    pub cluster: ClusterId,
    pub attempt: AttemptRef,
    pub running: bool,
    /// The attempt's own folder on the host.
    pub folder: Option<PathBuf>,
}

/// Why the engine did not do it. The outcome says whose fault it is.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The engine does not answer: wait for it.
    #[error("container engine unreachable: {0}")]
    Unreachable(String),
    /// The container does not end, whatever is done.
    #[error("{0}")]
    Stuck(String),
    /// Somebody removed the image between its pull and the container: another pull mends it.
    #[error("{0}")]
    ImageGone(String),
    /// The attempt ends so.
    #[error("{detail}")]
    Ends { outcome: Outcome, detail: String },
}

impl Error {
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }

    pub fn ends(outcome: Outcome, detail: impl Into<String>) -> Self {
        Self::Ends { outcome, detail: detail.into() }
    }
}
