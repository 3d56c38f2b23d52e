//! From signed or public addresses to one folder per input. Never writes outside that folder, never makes a link,
//! never keeps a file whose size or digest is not the promised one.

use crate::{link::Controller, runtime::Progress};
use longshore_common::{
    ids::AttemptRef,
    job::{Input, Outcome},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Files of one input on their way at once.
    pub files_at_once: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // Small files wait for round trips, not for bytes.
            files_at_once: 8,
        }
    }
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Another has the job now: drop everything.
    #[error("the attempt is fenced: {0}")]
    Fenced(String),
    /// Names the input, the file and what the source answered.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// How the attempt ends; `None` when it is another's.
    pub const fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Fenced(_) => None,
            Self::Failed(_) => Some(Outcome::InputFailed),
        }
    }
}

/// One per agent. Clones share connections.
#[derive(Clone, Debug)]
pub struct Fetcher {}

impl Fetcher {
    pub fn new(_controller: Arc<dyn Controller>, _config: Config) -> Result<Self, Error> {
        todo!()
    }

    /// Fills `dir/<name>` for every input and returns the folders. All of them together may take `limit_bytes`.
    /// Waits for an unreachable controller for ever: the caller holds the prepare deadline. Dropping it stops all.
    pub async fn fetch(
        &self,
        _attempt: AttemptRef,
        _inputs: &BTreeMap<String, Input>,
        _dir: &Path,
        _limit_bytes: u64,
        _progress: &Progress,
    ) -> Result<BTreeMap<String, PathBuf>, Error> {
        todo!()
    }
}
