//! Logs of attempts: the encoded records of `common::logs`, byte for byte as the agent ships them, so that an
//! offset means the same on both sides. Must never interpret a record beyond its frame.

mod files;
mod key;
mod position;
mod search;

pub use files::{Config, Files};
pub use key::LogKey;
pub use position::position;
pub use search::{since, tail};

use async_trait::async_trait;
use bytes::Bytes;
use longshore_common::logs::DecodeError;
use std::{fmt, io, path::PathBuf, sync::Arc};
use tokio::sync::watch;

#[derive(Clone, Debug)]
pub struct Append {
    pub key: LogKey,
    /// Of `data` in the whole log.
    pub offset: u64,
    /// Whole records.
    pub data: Bytes,
}

#[async_trait]
pub trait LogStore: Send + Sync + fmt::Debug {
    /// Appends to several logs and answers each with the highest offset stored without a hole. What is stored
    /// already is skipped; bytes beyond the end are not taken.
    async fn append(&self, appends: Vec<Append>) -> Vec<Result<u64, Error>>;

    /// Whole records from an offset on: at least one if there is one, about `max` bytes at most. An offset at or
    /// past the end gives nothing.
    async fn read(&self, key: LogKey, from: u64, max: usize) -> Result<Bytes, Error>;

    /// The end of a log, and each time it moves.
    async fn watch(&self, key: LogKey) -> Result<watch::Receiver<u64>, Error>;

    /// Offsets at which records begin, in order, the first one zero: the places to search from.
    async fn boundaries(&self, key: LogKey) -> Result<Vec<u64>, Error>;

    /// No more will come: lets go of what an open log costs.
    async fn seal(&self, key: LogKey);

    /// Removes logs; those that are gone are fine.
    async fn delete(&self, keys: &[LogKey]) -> Result<(), Error>;
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error("the disk under {} is full: free some space; the agent keeps the log until then", path.display())]
    Full { path: PathBuf },
    #[error("the log is longer than {cap} bytes, the most the controller keeps of one attempt")]
    TooLong { cap: u64 },
    #[error("log bytes are not whole records: {0}")]
    Malformed(String),
    #[error("log in {}: {error}", path.display())]
    Failed { path: PathBuf, error: Arc<io::Error> },
}

impl Error {
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Full { .. } | Self::Failed { .. } => true,
            Self::TooLong { .. } | Self::Malformed(_) => false,
        }
    }
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error.to_string())
    }
}
