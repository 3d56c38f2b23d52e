//! The controller as the agent sees it, behind one seam. Knows the wire and reconnecting; never decides about an
//! attempt. Implementations: `grpc` (real), `fake` (for tests).

#[cfg(test)]
pub mod fake;
pub mod grpc;

use crate::secrets::Secrets;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use longshore_common::{
    agent::{
        Capacity, FinishReport, Gpu, Grant, HeldAttempt, Holdings, Inventory, LaneAnswer, Offer, StopReason,
    },
    artifact::{ManifestEntry, UploadTarget},
    exec::{Asked, Told},
    fleet::Orders,
    ids::{AttemptRef, ClaimId, ClusterId, Epoch, ExecId},
    logs::Position,
    queue::{Lane, link::LinkConsumer},
};
use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::Instant};

/// A controller to call, what it says unasked, and the queue that it rings itself.
#[derive(Debug)]
pub struct Linked {
    pub controller: Arc<dyn Controller>,
    pub events: mpsc::Receiver<Event>,
    pub bell: Arc<LinkConsumer>,
}

/// What the link says of this agent.
#[async_trait]
pub trait Reporter: Send + Sync + fmt::Debug {
    /// With every hello.
    fn inventory(&self) -> Inventory;

    /// With every heartbeat.
    fn report(&self) -> Report;

    /// Returns when something changed that should not wait for the next heartbeat. Cancel-safe.
    async fn changed(&self);
}

#[async_trait]
pub trait Controller: Send + Sync + fmt::Debug {
    async fn claim(&self, claim: ClaimId, offer: Offer, hints: BTreeMap<Lane, u32>)
    -> Result<Claimed, Error>;

    /// Several attempts' log bytes at once; one answer each, in order.
    async fn append_logs(&self, appends: Vec<LogAppend>) -> Result<Vec<Result<u64, Error>>, Error>;

    /// Where the attempt's log ends, as far as the controller has it.
    async fn resume_log(&self, attempt: AttemptRef) -> Result<Position, Error>;

    /// One page of an input's files; `None` as the next page is the end.
    async fn fetch_input(
        &self,
        attempt: AttemptRef,
        name: &str,
        page: Option<String>,
    ) -> Result<InputPage, Error>;

    /// What the attempt may know.
    async fn fetch_secrets(&self, _attempt: AttemptRef) -> Result<Secrets, Error> {
        Err(Error::Refused("this controller has no secrets".to_owned()))
    }

    async fn open_uploads(
        &self,
        attempt: AttemptRef,
        files: Vec<WantedUpload>,
    ) -> Result<Vec<UploadTarget>, Error>;

    async fn complete_uploads(&self, attempt: AttemptRef, uploads: Vec<CompletedUpload>)
    -> Result<(), Error>;

    async fn put_manifest(
        &self,
        attempt: AttemptRef,
        page: u32,
        entries: Vec<ManifestEntry>,
    ) -> Result<(), Error>;

    /// Opens a session that was asked for, or says why there is none.
    async fn exec(
        &self,
        _attempt: AttemptRef,
        _session: ExecId,
        _refused: Option<String>,
    ) -> Result<ExecLine, Error> {
        Err(Error::Refused("this controller has no sessions".to_owned()))
    }

    /// Idempotent; batched with other attempts' reports underneath.
    async fn finish(&self, report: FinishReport) -> Result<(), Error>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    pub grants: Vec<Grant>,
    pub lanes: BTreeMap<Lane, LaneAnswer>,
}

/// One process that somebody wants in a container: what it says, and what it is told.
pub struct ExecLine {
    pub up: mpsc::Sender<Told>,
    pub down: BoxStream<'static, Result<Asked, Error>>,
}

impl fmt::Debug for ExecLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecLine").finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogAppend {
    pub attempt: AttemptRef,
    pub offset: u64,
    pub data: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputPage {
    pub files: Vec<InputFile>,
    pub next: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputFile {
    pub path: Vec<u8>,
    /// `None`: unknown until fetched (https inputs).
    pub size: Option<u64>,
    pub sha256: Option<[u8; 32]>,
    pub mode: u32,
    pub url: String,
}

/// A file to be stored under its ordinal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedUpload {
    pub ordinal: u64,
    pub size: u64,
    /// An earlier multipart upload of the same file that is not gone on with: its parts are removed.
    pub given_up: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompletedUpload {
    pub ordinal: u64,
    pub upload_id: String,
    pub etags: Vec<String>,
}

/// What comes down the link stream, and what the link itself notices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Connected(Welcome),
    Disconnected {
        reason: String,
    },
    /// The answer to a heartbeat that went up at `asked_at`.
    Renewed {
        renewed: Vec<AttemptRef>,
        fenced: Vec<AttemptRef>,
        asked_at: Instant,
    },
    Stop {
        attempt: AttemptRef,
        reason: StopReason,
    },
    /// The operator says that this GPU is well; a UUID.
    ResetGpu(String),
    /// What operators want of this machine, from now on.
    Orders(Orders),
    /// Somebody wants a process in this attempt's container.
    Exec {
        session: ExecId,
        attempt: AttemptRef,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    pub cluster: ClusterId,
    pub epoch: Epoch,
    pub heartbeat_every: Duration,
    pub queue: QueueAccess,
    pub lanes: Vec<Lane>,
}

#[derive(Clone, PartialEq, Eq)]
pub enum QueueAccess {
    /// `Work` messages ring over the link.
    Link,
    Amqp {
        url: String,
        prefix: String,
    },
}

impl fmt::Debug for QueueAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link => f.write_str("Link"),
            Self::Amqp { prefix, .. } => {
                f.debug_struct("Amqp").field("prefix", prefix).finish_non_exhaustive()
            }
        }
    }
}

/// What goes up with a heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub held: Vec<HeldAttempt>,
    pub free: Capacity,
    pub gpus: Vec<Gpu>,
    /// What the operator should know.
    pub note: String,
    /// Why it claims nothing at all; empty: it does.
    pub closed: String,
    /// Grants it still takes.
    pub slots: u32,
    /// Too little room on a disk to claim.
    pub disk_low: bool,
    /// What lies here; `None`: its engine does not say.
    pub holdings: Option<Holdings>,
    pub caches_bytes: u64,
    /// It was told to stop and claims nothing: what runs may go on for so long, then it is handed back.
    pub leaving: Option<Duration>,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error("controller unreachable: {0}")]
    Unreachable(String),
    /// Another has the job now: remove the container, report nothing.
    #[error("the attempt is fenced: {0}")]
    Fenced(String),
    /// This agent is none for the controller, whatever it asks.
    #[error("the controller does not take this agent: {0}")]
    Denied(String),
    /// The call itself is wrong; repeating it does not help.
    #[error("controller refused: {0}")]
    Refused(String),
}

impl Error {
    pub const fn is_transient(&self) -> bool {
        // Whoever is denied may be let in again, with what it holds.
        matches!(self, Self::Unreachable(_) | Self::Denied(_))
    }
}
