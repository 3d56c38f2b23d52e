//! From a container's output to the controller's log store: `redact` masks secrets, `split` makes records, `spool` keeps them until the
//! attempt is finished, `ship` sends several attempts' bytes in one call. Never blocks a container for longer than
//! a disk write, never holds more of a log in memory than its configured window, never loses a byte in silence.

mod encode;
mod encodings;
#[doc(hidden)]
pub mod fuzz;
mod log;
mod redact;
#[cfg(test)]
mod redact_tests;
mod ship;
mod source;
mod split;
mod spool;
#[cfg(test)]
mod tests;

pub use redact::{Masker, Veil};

use crate::link::Controller;
use bytes::Bytes;
use log::Log;
use longshore_common::{
    ids::AttemptRef,
    logs::{Position, Stream},
};
use serde::{Deserialize, Serialize};
use ship::Lists;
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::time::Instant;

/// How much of a log is kept, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Output of a job beyond this many bytes is discarded; the job runs on.
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
    Spool { path: PathBuf, source: io::Error },
}

const SPOOL_SUFFIX: &str = "log";

/// One per agent. Clones speak to the same one.
#[derive(Clone, Debug)]
pub struct LogShipper {
    dir: Arc<PathBuf>,
    config: Config,
    lists: Arc<Lists>,
}

impl LogShipper {
    /// Ships until the process ends. Spool files of earlier processes are removed.
    pub fn start(controller: Arc<dyn Controller>, dir: &Path, config: Config) -> Result<Self, Error> {
        clear(dir).map_err(|source| Error::Spool { path: dir.to_owned(), source })?;
        let lists = Arc::new(Lists::default());
        ship::start(controller, &lists, &config);
        Ok(Self { dir: Arc::new(dir.to_owned()), config, lists })
    }

    /// The log of an attempt. Costs nothing until its first byte.
    pub fn open(&self, attempt: AttemptRef) -> LogSink {
        self.resume(attempt, Position::default())
    }

    /// The log of an attempt, from where the controller has it.
    pub fn resume(&self, attempt: AttemptRef, from: Position) -> LogSink {
        let name = format!("{attempt}.{}.{SPOOL_SUFFIX}", attempt.epoch.0);
        let log = Arc::new(Log::new(attempt, from, self.dir.join(name), self.config.clone()));
        LogSink { log, lists: Arc::clone(&self.lists) }
    }
}

fn clear(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|suffix| suffix == SPOOL_SUFFIX) {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Where an attempt's output goes. Clones write to the same log.
#[derive(Clone, Debug)]
pub struct LogSink {
    log: Arc<Log>,
    lists: Arc<Lists>,
}

impl LogSink {
    /// Output as it came. Waits only for the local disk; what the disk does not take is counted and told in the log.
    pub async fn chunk(&self, stream: Stream, data: Bytes) {
        self.log.make_room().await;
        self.lists.grant(&self.log, self.log.append(stream, &data));
    }

    /// What is not to be seen in it. Before its first output.
    pub fn mask(&self, masker: Masker) {
        self.log.mask(masker);
    }

    /// What masks it.
    pub(crate) fn masker(&self) -> Masker {
        self.log.masker()
    }

    /// A text about the attempt that goes elsewhere than into its log.
    pub fn masked(&self, text: &str) -> String {
        self.log.masked(text)
    }

    /// A line of Longshore's own, without its line ending.
    pub async fn system(&self, line: &str) {
        self.log.make_room().await;
        self.lists.grant(&self.log, self.log.append(Stream::System, line.as_bytes()));
    }

    /// Ends the log, an unterminated last line included. What is written afterwards is ignored.
    pub async fn close(&self) -> ClosedLog {
        self.lists.grant(&self.log, self.log.close());
        ClosedLog { log: Arc::clone(&self.log) }
    }
}

/// A log that does not grow any more.
#[derive(Debug)]
pub struct ClosedLog {
    log: Arc<Log>,
}

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
    /// Length of the encoded log; of a log that was given up, what the controller has of it.
    pub fn end(&self) -> u64 {
        self.log.end()
    }

    /// Returns when the controller has stored all of it, will never, or the deadline has passed. Cancel-safe.
    pub async fn shipped(&self, deadline: Instant) -> Shipped {
        loop {
            if let Some(standing) = self.log.standing() {
                return standing;
            }
            if tokio::time::timeout_at(deadline, self.log.changed_standing()).await.is_err() {
                return Shipped::Late;
            }
        }
    }

    /// Forgets the log and its spool file. For after the accepted finish, or when fenced.
    pub async fn remove(self) {
        self.log.give_up(Shipped::Fenced);
        if self.log.has_file() {
            let log = self.log;
            drop(tokio::task::spawn_blocking(move || log.remove_file()).await);
        }
    }
}
