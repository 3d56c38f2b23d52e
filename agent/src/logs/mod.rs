//! From a container's output to the controller's log store: `split` makes records, `spool` keeps them until the
//! attempt is finished, `ship` sends several attempts' bytes in one call. Never blocks a container for longer than
//! a disk write, never holds more of a log in memory than its configured window, never loses a byte in silence.

use crate::link::Controller;
use bytes::Bytes;
use longshore_common::{ids::AttemptRef, logs::Stream};
use serde::{Deserialize, Serialize};
use std::{path::Path, sync::Arc};
use tokio::time::Instant;

/// How much of a log is kept, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A job's log ends here, in encoded bytes; the job runs on.
    pub cap_bytes: u64,
    /// What one log may hold in memory before it goes to disk.
    pub memory_bytes: usize,
    /// Log bytes in one call to the controller.
    pub call_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // Hours of a chatty training run; more is data and belongs into /out.
            cap_bytes: 256 << 20,
            // Most jobs never write a file, a thousand busy ones hold 128 MiB.
            memory_bytes: 128 << 10,
            // Below the usual message limit of 4 MiB, large enough that the round trip does not count.
            call_bytes: 1 << 20,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("log spool `{path}` cannot be made: {source}")]
    Spool { path: std::path::PathBuf, source: std::io::Error },
}

/// One per agent. Clones speak to the same one.
#[derive(Clone, Debug)]
pub struct LogShipper {}

impl LogShipper {
    /// Ships until the process ends. Spool files of earlier processes are removed.
    pub fn start(_controller: Arc<dyn Controller>, _dir: &Path, _config: Config) -> Result<Self, Error> {
        todo!()
    }

    /// The log of an attempt. Costs nothing until its first byte.
    pub fn open(&self, _attempt: AttemptRef) -> LogSink {
        todo!()
    }
}

/// Where an attempt's output goes. Clones write to the same log.
#[derive(Clone, Debug)]
pub struct LogSink {}

impl LogSink {
    /// Output as it came. Waits only for the local disk; what the disk does not take is counted and told in the log.
    pub async fn chunk(&self, _stream: Stream, _data: Bytes) {
        todo!()
    }

    /// A line of Longshore's own, without its line ending.
    pub async fn system(&self, _line: &str) {
        todo!()
    }

    /// Ends the log, an unterminated last line included. What is written afterwards is ignored.
    pub async fn close(&self) -> ClosedLog {
        todo!()
    }
}

/// A log that does not grow any more.
#[derive(Debug)]
pub struct ClosedLog {}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shipped {
    /// The controller has every byte.
    Stored,
    /// Another has the job now.
    Fenced,
    /// The controller will not take this log: why.
    Refused(String),
    /// The deadline passed first; shipping goes on.
    Late,
}

impl ClosedLog {
    /// Length of the encoded log.
    pub fn end(&self) -> u64 {
        todo!()
    }

    /// Returns when the controller has stored all of it, will never, or the deadline has passed. Cancel-safe.
    pub async fn shipped(&self, _deadline: Instant) -> Shipped {
        todo!()
    }

    /// Forgets the log and its spool file. For after the accepted finish, or when fenced.
    pub async fn remove(self) {
        todo!()
    }
}
