//! Why a secret is not to be had.

use crate::jobs;
use std::path::PathBuf;

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error("no secret `{name}` in project `{project}`; `longshore secrets ls` lists all")]
    NoSecret { project: String, name: String },
    #[error(
        "no credentials for registry `{host}` in project `{project}`; `longshore registries ls` lists all"
    )]
    NoRegistry { project: String, host: String },
    #[error("{0}")]
    Invalid(String),
    #[error("secrets.key is no key: a key is 32 bytes in base64, as from `openssl rand -base64 32`")]
    KeySetting,
    #[error("secrets.key_file {}: {message}", path.display())]
    KeyFile { path: PathBuf, message: String },
    #[error(
        "the key of this controller does not open what is stored; start it with the key that did, or set the values anew"
    )]
    WrongKey,
    #[error(transparent)]
    Jobs(#[from] jobs::Error),
}

impl Error {
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Jobs(error) => error.is_transient(),
            Self::NoSecret { .. }
            | Self::NoRegistry { .. }
            | Self::Invalid(_)
            | Self::KeySetting
            | Self::KeyFile { .. }
            | Self::WrongKey => false,
        }
    }
}
