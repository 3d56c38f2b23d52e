//! Why something asked of triggers was not done.

use crate::{actions, jobs, secrets};
use longshore_common::fields::FieldErrors;

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error("project `{project}` has no trigger `{name}`; `longshore triggers ls` lists them")]
    NotFound { project: String, name: String },
    #[error("trigger `{0}` is no webhook: it has no secret")]
    NoWebhook(String),
    #[error("{0}")]
    Invalid(#[from] FieldErrors),
    #[error("project `{project}` has {most} triggers, which is the most")]
    TooMany { project: String, most: usize },
    #[error("request_id `{0}` was used to fire this trigger with another payload; choose a new one")]
    RequestReused(String),
    #[error("trigger `{0}` was changed by somebody else meanwhile; ask again")]
    Changed(String),
    #[error("{0}")]
    DiskLow(String),
    #[error(transparent)]
    Actions(actions::Error),
    #[error(transparent)]
    Secrets(#[from] secrets::Error),
    #[error(transparent)]
    Jobs(#[from] jobs::Error),
}

impl Error {
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Jobs(error) => error.is_transient(),
            Self::Secrets(error) => error.is_transient(),
            Self::Actions(error) => error.is_transient(),
            Self::Changed(_) | Self::DiskLow(_) => true,
            Self::RequestReused(_)
            | Self::NotFound { .. }
            | Self::NoWebhook(_)
            | Self::Invalid(_)
            | Self::TooMany { .. } => false,
        }
    }
}
