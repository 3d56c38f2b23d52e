//! Why an attempt is stopped before its own end. Cancel (user), revoke (lease) and leave (process) are three
//! different words; the strongest one said counts.

use longshore_common::{agent::StopReason, job::Outcome, units::ByteSize};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::sync::watch;

/// In rising order of strength.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Cause {
    /// The agent process ends; its next one takes the container over.
    Leaving,
    /// The agent process ends and gives its jobs back.
    HandingBack,
    /// The machine is drained; the text says by whom and why.
    Drained(String),
    PrepareDeadline(Duration),
    RunDeadline(Duration),
    DiskLimit {
        used: u64,
        limit: u64,
    },
    /// What it wrote into its own files counts as memory, and is too much.
    FilesOverMemory {
        files: u64,
        held: u64,
        limit: u64,
    },
    /// What it wrote cannot be measured, by its own doing; the text says how.
    Unmeasurable(String),
    /// Through what it shares with others it fills the node's disk; the text says how.
    NoRoom(String),
    /// It took more memory of a shared GPU than it asked for.
    VramLimit {
        used: u64,
        limit: u64,
    },
    /// It holds a GPU and does not use it.
    GpuIdle(String),
    /// One of its GPUs failed, by NVIDIA's number if there is one.
    GpuFault {
        xid: Option<u32>,
        detail: String,
    },
    /// The controller did not renew the lease for its length: it may have given the job to another.
    LeaseLost(Duration),
    /// The user asked; the text says who and why.
    Cancelled(String),
    /// Fenced: remove the container, report nothing.
    Revoked,
}

impl From<StopReason> for Cause {
    fn from(reason: StopReason) -> Self {
        match reason {
            StopReason::Cancel(detail) => Self::Cancelled(detail),
            StopReason::Revoke => Self::Revoked,
            StopReason::HandBack(detail) => Self::Drained(detail),
        }
    }
}

impl Cause {
    /// The job is tried again elsewhere: what it left here is nobody's.
    pub(super) const fn gives_back(&self) -> bool {
        matches!(self, Self::HandingBack | Self::Drained(_))
    }

    /// How an attempt that was stopped for this ends; `None`: it is not ours to say.
    pub(crate) fn verdict(&self) -> Option<(Outcome, String)> {
        Some(match self {
            Self::Leaving | Self::HandingBack => (Outcome::AgentShutdown, "the agent was stopped".to_owned()),
            Self::Drained(detail) => (Outcome::AgentShutdown, detail.clone()),
            Self::PrepareDeadline(length) => (
                Outcome::PrepareTimeout,
                format!("image, inputs and container were not ready after {}", seconds(*length)),
            ),
            Self::RunDeadline(length) => {
                (Outcome::RunTimeout, format!("the container ran for {}", seconds(*length)))
            }
            Self::DiskLimit { used, limit } => (
                Outcome::DiskLimit,
                format!("the container wrote {} MiB, its limit is {} MiB", used >> 20, limit >> 20),
            ),
            Self::FilesOverMemory { files, held, limit } => {
                let [files, held, limit] = [files, held, limit].map(|bytes| ByteSize(*bytes).rounded());
                let detail = format!(
                    "the container wrote {files} into its own files and held {held} of memory; both together may \
                     be {limit}, its memory limit"
                );
                (Outcome::FilesOverMemory, detail)
            }
            Self::Unmeasurable(detail) | Self::NoRoom(detail) => (Outcome::DiskLimit, detail.clone()),
            Self::VramLimit { used, limit } => (
                Outcome::VramLimit,
                format!(
                    "it took {} MiB of the shared GPU's memory and asked for {} MiB",
                    used >> 20,
                    limit >> 20
                ),
            ),
            Self::GpuIdle(detail) => (Outcome::GpuIdle, detail.clone()),
            Self::GpuFault { xid, detail } => (Outcome::GpuFault(*xid), detail.clone()),
            Self::LeaseLost(length) => (
                Outcome::AgentLost,
                format!("the agent did not reach the controller for {}, the job's lease", seconds(*length)),
            ),
            Self::Cancelled(detail) => (Outcome::Cancelled, detail.clone()),
            Self::Revoked => return None,
        })
    }
}

/// Where others say stop to an attempt.
#[derive(Clone, Debug)]
pub(super) struct Stopper(watch::Sender<Option<Cause>>);

/// Where the attempt listens.
#[derive(Clone, Debug)]
pub(crate) struct StopSignal(watch::Receiver<Option<Cause>>);

pub(super) fn channel() -> (Stopper, StopSignal) {
    let (sender, receiver) = watch::channel(None);
    (Stopper(sender), StopSignal(receiver))
}

impl Stopper {
    pub(super) fn listen(&self) -> StopSignal {
        StopSignal(self.0.subscribe())
    }

    /// Says stop. A weaker cause than the one said before changes nothing.
    pub(super) fn raise(&self, cause: Cause) {
        self.0.send_if_modified(|said| {
            let stronger = said.as_ref().is_none_or(|before| *before < cause);
            if stronger {
                *said = Some(cause);
            }
            stronger
        });
    }
}

impl StopSignal {
    pub(crate) fn said(&self) -> Option<Cause> {
        self.0.borrow().clone()
    }

    /// Returns once something stronger than `known` was said. Cancel-safe.
    pub(crate) async fn beyond(&mut self, known: Option<&Cause>) -> Cause {
        let heard = self.0.wait_for(|said| said.is_some() && said.as_ref() > known).await;
        match heard.ok().and_then(|said| said.clone()) {
            Some(cause) => cause,
            // Nobody can say stop any more.
            None => std::future::pending().await,
        }
    }

    /// Returns once the attempt is fenced. Cancel-safe.
    pub(super) async fn revoked(&mut self) {
        if self.0.wait_for(|said| *said == Some(Cause::Revoked)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn seconds(length: Duration) -> String {
    format!("{} s", length.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_stronger_cause_is_heard() {
        let (stopper, mut signal) = channel();
        stopper.raise(Cause::Cancelled("by anna".into()));
        stopper.raise(Cause::Leaving);
        assert_eq!(signal.beyond(None).await, Cause::Cancelled("by anna".into()));
        stopper.raise(Cause::Revoked);
        assert_eq!(signal.beyond(Some(&Cause::Cancelled("by anna".into()))).await, Cause::Revoked);
    }
}
