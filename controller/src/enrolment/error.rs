//! Why a machine is not taken in, or an agent not heard.

use crate::{pki, store};
use longshore_common::{clock::Timestamp, ids::AgentId};

/// An agent's call is refused, whatever it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error(
        "only agents may call this, and they show their certificate, or their key where there is no TLS: start the \
         agent with the command that `longshore agents join-token` prints"
    )]
    NotShown,
    #[error("this controller does not know the agent's credential: {AGAIN}")]
    Unknown,
    #[error("the agent's credential ended at {}: {AGAIN}", .0.to_rfc3339())]
    Ended(Timestamp),
    #[error("this agent was removed from the cluster: {AGAIN}")]
    Removed,
}

const AGAIN: &str = "join again with the command that `longshore agents join-token` prints";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "this join token is not known here: was it made by another controller, or is it long over? {ANOTHER}"
    )]
    UnknownToken,
    #[error("the join token expired at {}: {ANOTHER}", .0.to_rfc3339())]
    Expired(Timestamp),
    #[error("the join token was revoked: {ANOTHER}")]
    Revoked,
    #[error("the join token has been used {0} times, as often as it may be: {ANOTHER}")]
    UsedUp(u32),
    /// Whoever holds a join token must not become an agent that is there.
    #[error(
        "agent {0} has joined already: remove it with `longshore agents rm {0}`, or remove its data directory to be a new one"
    )]
    Joined(AgentId),
    #[error("this agent was removed from the cluster: {AGAIN}")]
    Removed,
    #[error("{0}")]
    Request(String),
    #[error(transparent)]
    Pki(pki::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
}

const ANOTHER: &str = "make another with `longshore agents join-token`";

impl Error {
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Store(error) => error.is_transient(),
            _ => false,
        }
    }
}

impl From<pki::Error> for Error {
    fn from(error: pki::Error) -> Self {
        match error {
            pki::Error::Request(_) => Self::Request(error.to_string()),
            error => Self::Pki(error),
        }
    }
}
