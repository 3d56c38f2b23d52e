//! Why something about an action was not done.

use crate::jobs;
use longshore_common::fields::FieldErrors;

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error("project `{project}` has no action `{name}`{}", hint(.near.as_deref()))]
    Unknown { project: String, name: String, near: Option<String> },
    #[error(
        "action {name} has no version {version}: the latest is {latest}; `longshore actions versions {name}` lists all"
    )]
    NoVersion { name: String, version: u32, latest: u32 },
    #[error("action {name} is archived, by {by}: `longshore actions restore {name}` brings it back")]
    Archived { name: String, by: String },
    #[error(
        "the latest version of {name} is {latest}, not {asked} as you expected: look at what changed, and apply again"
    )]
    Moved { name: String, asked: u32, latest: u32 },
    #[error("request_id `{request_id}` was used for another change of action {name}; choose a new one")]
    RequestReused { request_id: String, name: String },
    #[error("{0}")]
    Invalid(FieldErrors),
    #[error(transparent)]
    Jobs(#[from] jobs::Error),
}

impl Error {
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Jobs(error) => error.is_transient(),
            Self::Unknown { .. }
            | Self::NoVersion { .. }
            | Self::Archived { .. }
            | Self::Moved { .. }
            | Self::RequestReused { .. }
            | Self::Invalid(_) => false,
        }
    }
}

fn hint(near: Option<&str>) -> String {
    match near {
        Some(near) => format!("; did you mean `{near}`?"),
        None => "; `longshore actions ls -a` lists all".to_owned(),
    }
}
