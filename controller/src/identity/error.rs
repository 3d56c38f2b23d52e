//! Why a caller is nobody, and why tokens and projects are as they are.

use crate::jobs;
use std::path::PathBuf;

/// Why a credential opens nothing. Says no more than its holder knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("no token: log in with `longshore login URL`, or set LONGSHORE_TOKEN")]
    Missing,
    #[error("what was sent as a token is none; a token begins with `lst_`")]
    NotAToken,
    #[error("the token is not known here: it was revoked, or belongs to another cluster")]
    Unknown,
    #[error("token `{0}` has expired; ask an admin for a new one")]
    Expired(String),
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error("no token `{0}`: neither an id nor a name; `longshore tokens ls` lists all")]
    NoToken(String),
    #[error("no project `{0}`; `longshore projects ls` lists all")]
    NoProject(String),
    #[error("there is a token `{0}`; revoke it first, or choose another name")]
    Taken(String),
    #[error("{0}")]
    Invalid(String),
    #[error("{}: {message}", path.display())]
    File { path: PathBuf, message: String },
    #[error(transparent)]
    Jobs(#[from] jobs::Error),
}

impl Error {
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Jobs(error) => error.is_transient(),
            Self::NoToken(_) | Self::NoProject(_) | Self::Taken(_) | Self::Invalid(_) | Self::File { .. } => {
                false
            }
        }
    }
}
