//! The doorbell. It says in which lane there is work and carries ids only, so losing, repeating or delaying a
//! hint is harmless: the database is the truth.

#[doc(hidden)]
pub mod contract;
mod inbox;
pub mod link;
pub mod rabbit;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The queue of all jobs of one pool that ask for the same class of resources: `default.cpu`, `default.gpu`,
/// `default.gpu-shared`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Lane(String);

/// Classes of resources, one lane each in every pool.
pub const CLASSES: [&str; 3] = ["cpu", "gpu", SHARED];
/// A part of a GPU: there may be room for it where no GPU is free.
const SHARED: &str = "gpu-shared";

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a lane (a pool's name, a dot, and cpu, gpu or gpu-shared)")]
pub struct ParseLaneError(String);

impl Lane {
    /// The pool's name must be valid: `job::validate` sees to it.
    pub fn new(pool: &str, gpu: bool) -> Self {
        Self(format!("{pool}.{}", if gpu { "gpu" } else { "cpu" }))
    }

    /// Of jobs that share a GPU.
    pub fn shared(pool: &str) -> Self {
        Self(format!("{pool}.{SHARED}"))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn pool(&self) -> &str {
        self.0.rsplit_once('.').map_or(self.0.as_str(), |(pool, _)| pool)
    }

    /// Whether its jobs need a GPU, or a part of one.
    pub fn is_gpu(&self) -> bool {
        self.class() != "cpu"
    }

    /// Whether its jobs share one.
    pub fn is_shared(&self) -> bool {
        self.class() == SHARED
    }

    /// All lanes of a pool.
    pub fn of_pool(pool: &str) -> [Self; 3] {
        [Self::new(pool, false), Self::new(pool, true), Self::shared(pool)]
    }

    fn class(&self) -> &str {
        self.0.rsplit_once('.').map_or("", |(_, class)| class)
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Lane {
    type Err = ParseLaneError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.rsplit_once('.') {
            Some((pool, class)) if !pool.is_empty() && CLASSES.contains(&class) => Ok(Self(text.to_owned())),
            _ => Err(ParseLaneError(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Lane {
    type Error = ParseLaneError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Lane> for String {
    fn from(lane: Lane) -> Self {
        lane.0
    }
}

/// The controller's side of a queue.
#[async_trait]
pub trait Publisher: Send + Sync + fmt::Debug {
    /// Makes the lanes exist. Idempotent; called again after every reconnect.
    async fn declare(&self, lanes: &[Lane]) -> Result<(), Error>;

    /// Rings `count` times in a lane and answers how many the queue has confirmed.
    async fn publish(&self, lane: &Lane, count: u32) -> Result<u32, Error>;

    /// How many hints wait in a lane by the queue's own count.
    async fn waiting(&self, lane: &Lane) -> Result<u32, Error>;

    /// Whether the queue answers, and what it is, for `status`.
    async fn health(&self) -> Result<String, Error>;
}

/// The agent's side of a queue. One per agent; implementations reconnect by themselves for as long as it takes.
#[async_trait]
pub trait Consumer: Send + Sync + fmt::Debug {
    /// Consumes from exactly these lanes from now on. A lane newly left out is cancelled before this returns.
    async fn consume(&self, lanes: &[Lane]) -> Result<(), Error>;

    /// The next hint. Cancel-safe.
    async fn next(&self) -> Hint;

    /// Says that this hint was used up by a claim. Never a nack: a hint that is not acknowledged comes back by
    /// itself when the connection ends.
    async fn ack(&self, hint: Hint) -> Result<(), Error>;

    /// Leaves every lane and gives back at once what is not acknowledged: the controller cannot be reached, so
    /// others may have it. `consume` starts again.
    async fn release(&self) -> Result<(), Error>;
}

/// "There is work in this lane."
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    pub lane: Lane,
    /// What the implementation needs to acknowledge it.
    pub tag: u64,
    /// Of the connection the tag belongs to.
    pub generation: u64,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// It will come back: try again.
    #[error("queue unreachable: {0}")]
    Unreachable(String),
    /// The queue is there and refuses; a person must act.
    #[error("queue refused: {0}")]
    Refused(String),
}

impl Error {
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_has_three_lanes_and_each_reads_back() {
        let lanes = Lane::of_pool("a.gpu");
        let told = lanes.each_ref().map(|lane| (lane.as_str(), lane.is_gpu(), lane.is_shared()));
        assert_eq!(
            told,
            [("a.gpu.cpu", false, false), ("a.gpu.gpu", true, false), ("a.gpu.gpu-shared", true, true)]
        );
        for lane in &lanes {
            assert_eq!((lane.as_str().parse().as_ref(), lane.pool()), (Ok(lane), "a.gpu"));
        }
        for bad in ["", "cpu", ".cpu", "a.tpu", "a.gpu-", "a.shared"] {
            assert!(bad.parse::<Lane>().is_err(), "{bad}");
        }
    }
}
