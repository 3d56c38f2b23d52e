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

/// The queue of all jobs of one pool that ask for the same class of resources: `default.cpu`, `default.gpu`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Lane(String);

/// Classes of resources, one lane each in every pool.
pub const CLASSES: [&str; 2] = ["cpu", "gpu"];

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a lane (a pool's name, a dot, and cpu or gpu)")]
pub struct ParseLaneError(String);

impl Lane {
    /// The pool's name must be valid: `job::validate` sees to it.
    pub fn new(pool: &str, gpu: bool) -> Self {
        Self(format!("{pool}.{}", if gpu { "gpu" } else { "cpu" }))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn pool(&self) -> &str {
        self.0.rsplit_once('.').map_or(self.0.as_str(), |(pool, _)| pool)
    }

    pub fn is_gpu(&self) -> bool {
        self.0.ends_with(".gpu")
    }

    /// Both lanes of a pool.
    pub fn of_pool(pool: &str) -> [Self; 2] {
        [Self::new(pool, false), Self::new(pool, true)]
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
