//! The truth. All SQL lives here; nothing else knows that there is any.

mod error;

pub use error::Error;

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Settings of the embedded database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The SQLite file; its lock file and write-ahead log lie beside it.
    pub path: PathBuf,
}

/// The open database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {}

impl Store {
    /// Locks, opens, migrates. A second controller on the same file is refused.
    pub async fn open(config: &Config) -> Result<Self, Error> {
        unimplemented!("{config:?}")
    }
}
