//! Where the key is that the data keys are wrapped with.

use super::{
    error::Error,
    keys::{self, Key},
};
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// Beside the database, unless another is named. A backup of the database does not hold it.
const KEY_FILE: &str = "secrets.key";

/// The key that the data keys are wrapped with.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A file with 32 bytes in base64. `None`: `secrets.key` in the data directory, made when it is missing.
    pub key_file: Option<PathBuf>,
    /// The key itself, for `LONGSHORE_SECRETS_KEY`; comes before the file.
    pub key: Option<SecretText>,
}

/// A setting that nobody prints.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct SecretText(String);

impl Serialize for SecretText {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str("(hidden)")
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl SecretText {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// For the one place that it is made for.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("key_file", &self.key_file).finish_non_exhaustive()
    }
}

impl Config {
    fn path(&self, data_dir: &Path) -> PathBuf {
        self.key_file.clone().unwrap_or_else(|| data_dir.join(KEY_FILE))
    }

    pub(super) fn key(&self, data_dir: &Path) -> Result<Key, Error> {
        match &self.key {
            Some(text) => Key::from_base64(&text.0).ok_or(Error::KeySetting),
            None => {
                let path = self.path(data_dir);
                keys::from_file(&path).map_err(|error| Error::KeyFile { path, message: error.to_string() })
            }
        }
    }
}
