//! Why there is no run key.

use crate::{jobs, secrets, store};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The attempt ends with this; another one may have more luck.
    #[error("{0}")]
    NoKey(String),
    /// The attempt is over.
    #[error("the attempt is over")]
    Over,
    #[error("minters.{0}: {1}")]
    Setting(String, String),
    #[error(transparent)]
    Secrets(#[from] secrets::Error),
    #[error(transparent)]
    Jobs(#[from] jobs::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Error {
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::NoKey(_) => true,
            Self::Over | Self::Setting(..) => false,
            Self::Secrets(error) => error.is_transient(),
            Self::Jobs(error) => error.is_transient(),
            Self::Store(error) => error.is_transient(),
        }
    }
}
