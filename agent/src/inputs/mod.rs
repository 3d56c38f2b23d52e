//! From signed or public addresses to one folder per input. Never writes outside that folder, never makes a link,
//! never keeps a file whose size or digest is not the promised one.

mod download;
mod fetch;
mod landing;
#[cfg(test)]
mod tests;

use crate::{
    credential::Authorities,
    link::Controller,
    runtime::{Block, NetworkConfig, Progress},
    transfer::{self, Clients, Wall},
};
use download::Room;
use fetch::Fetch;
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
    /// A source that gives nothing for this long fails the input.
    pub patience_seconds: u64,
    /// Addresses like `10.1.2.0/24` that jobs may name in `https://` inputs although `runtime.network` closes them,
    /// or although they are this node's own.
    pub also: Vec<Block>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // Small files wait for round trips, not for bytes.
            files_at_once: 8,
            // A restart of a store, not an outage: the job may run again.
            patience_seconds: 120,
            // The agent fetches as root from the node's network: what containers do not reach stays shut.
            also: Vec::new(),
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
pub struct Fetcher {
    controller: Arc<dyn Controller>,
    /// For addresses that the controller signed.
    store: Clients,
    /// For addresses that the job names.
    web: Clients,
    /// Around those.
    wall: Wall,
    config: Config,
}

impl Fetcher {
    pub fn new(
        controller: Arc<dyn Controller>,
        config: Config,
        network: &NetworkConfig,
        authorities: &Authorities,
    ) -> Result<Self, Error> {
        let failed =
            |err| Error::Failed(format!("http client for inputs cannot be made: {}", transfer::text(&err)));
        let wall = Wall::new(network, &config.also);
        let store = Clients::new(None, authorities).map_err(failed)?;
        let web = Clients::new(Some(wall.clone()), &Authorities::default()).map_err(failed)?;
        Ok(Self { controller, store, web, wall, config })
    }

    /// Fills `dir/<name>` for every input that is not a share and returns the folders. All of them together may take `limit_bytes`.
    /// Waits for an unreachable controller for ever: the caller holds the prepare deadline. Dropping it stops all.
    pub async fn fetch(
        &self,
        attempt: AttemptRef,
        inputs: &BTreeMap<String, Input>,
        dir: &Path,
        limit_bytes: u64,
        progress: &Progress,
    ) -> Result<BTreeMap<String, PathBuf>, Error> {
        let room = Room::new(limit_bytes);
        let mut folders = BTreeMap::new();
        for (name, input) in inputs {
            if matches!(input, Input::Share(_)) {
                continue;
            }
            let folder = dir.join(name);
            let fetch = Fetch { fetcher: self, attempt, name, input, folder: folder.clone(), room: &room };
            Box::pin(fetch.run(progress)).await?;
            folders.insert(name.clone(), folder);
        }
        Ok(folders)
    }
}
