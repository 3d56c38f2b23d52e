//! From `/out` to the object store: `collect` walks the folder without trusting it, `upload` puts the bytes to signed
//! addresses, `collection` joins them and hands the manifest to the controller. Never follows a link out of the folder, never holds a whole
//! file or the whole list in memory, never decides how the attempt ended.

mod budget;
mod collect;
mod collection;
mod folder;
mod put;
mod select;
mod source;
mod tally;
#[cfg(test)]
mod tests;
mod upload;

use crate::{credential::Authorities, link::Controller, runtime::Progress};
use longshore_common::{
    ids::AttemptRef,
    job::{Outcome, Outputs, spec::MOST_FILES},
};
use serde::{Deserialize, Serialize};
use std::{path::Path, sync::Arc};
use tokio::time::Instant;

/// How much goes on at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Files of one attempt on their way at once.
    pub files_at_once: usize,
    /// Parts of one file on their way at once.
    pub parts_at_once: usize,
    /// Connections that carry uploads, over all attempts.
    pub connections: usize,
    /// How long files that could not be stored wait on this node for another upload.
    pub keep_seconds: u64,
    /// Names of one `/out` that are looked at, kept or not.
    pub most_entries: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // Small files wait for round trips, not for bytes.
            files_at_once: 8,
            // Enough to fill a 10 Gbit/s line with 8 MiB parts.
            parts_at_once: 4,
            // Bounds the memory of all uploads together: each holds one read buffer.
            connections: 32,
            // Long enough for a person to see the failure and mend the store.
            keep_seconds: 24 * 3600,
            // As many as there may be files; some minutes of reading folders.
            most_entries: MOST_FILES,
        }
    }
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Another has the job now: drop everything.
    #[error("the attempt is fenced: {0}")]
    Fenced(String),
    #[error("http client for artifacts cannot be made: {0}")]
    Client(String),
}

/// What is stored and listed in the manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    pub count: u64,
    pub bytes: u64,
    pub pages: u32,
    /// What was left out and why, for the finish report; a bounded number of lines.
    pub notes: Vec<String>,
    /// `None`: all of it is stored. Otherwise what the attempt ends with, unless something worse ended it before.
    pub problem: Option<(Outcome, String)>,
}

/// One per agent. Clones share connections.
#[derive(Clone, Debug)]
pub struct Uploader {
    controller: Arc<dyn Controller>,
    putter: put::Putter,
    config: Config,
}

impl Uploader {
    pub fn new(
        controller: Arc<dyn Controller>,
        config: Config,
        authorities: &Authorities,
    ) -> Result<Self, Error> {
        let putter = put::Putter::new(&config, authorities)
            .map_err(|err| Error::Client(crate::transfer::text(&err)))?;
        Ok(Self { controller, putter, config })
    }

    /// Stores what the selection keeps of the folder `out`, on a disk of `scratch` bytes, trying again until `deadline`.
    pub async fn collect(
        &self,
        attempt: AttemptRef,
        out: &Path,
        (outputs, scratch): (&Outputs, u64),
        deadline: Instant,
        progress: &Progress,
    ) -> Result<Collected, Error> {
        let folder = match folder::Folder::open(out) {
            Ok(folder) => Arc::new(folder),
            Err(err) => {
                let detail = format!("/out cannot be opened: {err}");
                let problem = Some((Outcome::ArtifactUploadFailed, detail));
                return Ok(Collected { problem, ..Collected::default() });
            }
        };
        let tools = (Arc::clone(&self.controller), self.putter.clone());
        let upload = upload::Upload::new(tools, attempt, folder, deadline, progress.clone());
        collection::run(upload, outputs, scratch, &self.config).await
    }
}
