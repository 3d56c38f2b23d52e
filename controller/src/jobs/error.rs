//! Why a command on jobs failed.

use super::types::Needed;
use longshore_common::ids::ShortId;

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] crate::store::Error),
    #[error("no such {kind}: {name}")]
    NotFound { kind: &'static str, name: String },
    #[error("page token belongs to another list; start without one")]
    PageToken,
    #[error("job {job} has not ended; cancel it first, or wait for its end")]
    NotEnded { job: ShortId },
    #[error(
        "no attempt of this job is known to have run a digest of {image} that its registry gave: none came so far, or \
         the image was built on its node; leave out --pin, or push the image and run that"
    )]
    NoDigest { image: String },
    #[error(
        "job {} is needed by jobs that have not ended ({}): what it left is their input, or they wait for its end; \
         wait for theirs, or cancel them first",
        .0.job, named(.0)
    )]
    Needed(Needed),
    #[error("no job of batch {batch} {what}, so there is nothing to try again")]
    NothingToRetry { batch: ShortId, what: &'static str },
    #[error("{0}")]
    Invalid(String),
    #[error("project {project} keeps {stored} of its {bound}, and {more} more do not fit; remove some jobs")]
    Storage { project: String, stored: String, more: String, bound: String },
    /// The writer is gone: the process leaves.
    #[error("the controller is shutting down; try again in a moment")]
    Closed,
}

impl Error {
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Store(error) => error.is_transient(),
            Self::Closed => true,
            Self::NotFound { .. }
            | Self::PageToken
            | Self::NotEnded { .. }
            | Self::NoDigest { .. }
            | Self::Needed(_)
            | Self::NothingToRetry { .. }
            | Self::Storage { .. }
            | Self::Invalid(_) => false,
        }
    }
}

/// Why a text names no job.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ResolveError {
    #[error(
        "no job `{0}`: neither an id, a unique beginning of one, nor a name; `longshore ls -a` lists all"
    )]
    NotFound(String),
    #[error("`{text}` begins {} job ids: {}", matches.len(), join(matches))]
    Ambiguous { text: String, matches: Vec<ShortId> },
    #[error(transparent)]
    Failed(#[from] Error),
}

fn join(ids: &[ShortId]) -> String {
    ids.iter().map(ShortId::as_str).collect::<Vec<_>>().join(", ")
}

fn named(needed: &Needed) -> String {
    let more = needed.count.saturating_sub(needed.by.len() as u64);
    if more == 0 { join(&needed.by) } else { format!("{} and {more} more", join(&needed.by)) }
}
