//! Errors as gRPC says them. The only place that chooses codes.

use crate::{
    actions, blobs, identity, jobs,
    jobs::{BatchError, ResolveError, SubmitError},
    lifecycle, log_store, secrets, store, triggers,
};
use longshore_common::{fields::FieldError, wire::status::Refusal};
use tonic::{Code, Status};

/// One wrong field of a request.
pub(super) fn field(path: &str, message: impl Into<String>) -> Status {
    invalid(FieldError::new(path, message))
}

pub(super) fn invalid(error: impl Into<Refusal>) -> Status {
    error.into().into()
}

pub(super) fn not_found(message: impl Into<String>) -> Status {
    Status::not_found(message)
}

/// This process is leaving: whoever follows comes back to the next one.
pub(super) fn leaving() -> Status {
    Status::unavailable("the controller is shutting down; try again in a moment")
}

pub(super) fn of_jobs(error: jobs::Error) -> Refusal {
    let code = match &error {
        jobs::Error::Store(store::Error::Full) => Code::ResourceExhausted,
        jobs::Error::Store(error) if error.is_transient() => Code::Unavailable,
        jobs::Error::Store(_) => {
            tracing::error!(%error, "the database failed");
            // What it says has paths and statements in it.
            return Refusal::new(Code::Internal, "the database failed; the controller's own log says why");
        }
        jobs::Error::NotFound { .. } => Code::NotFound,
        jobs::Error::PageToken => return FieldError::new("page_token", error.to_string()).into(),
        jobs::Error::NotEnded { .. }
        | jobs::Error::NoDigest { .. }
        | jobs::Error::Needed(_)
        | jobs::Error::NothingToRetry { .. } => Code::FailedPrecondition,
        jobs::Error::Invalid(_) => Code::InvalidArgument,
        jobs::Error::Storage { .. } => Code::ResourceExhausted,
        jobs::Error::Closed => Code::Unavailable,
    };
    Refusal::new(code, error.to_string())
}

pub(super) fn jobs(error: jobs::Error) -> Status {
    of_jobs(error).into()
}

pub(super) fn actions(error: actions::Error) -> Status {
    use actions::Error as E;
    match error {
        E::Unknown { .. } | E::NoVersion { .. } => Status::not_found(error.to_string()),
        E::Archived { .. } | E::Moved { .. } => Status::failed_precondition(error.to_string()),
        E::RequestReused { .. } => Status::already_exists(error.to_string()),
        E::Invalid(fields) => invalid(fields),
        E::Jobs(error) => jobs(error),
    }
}

/// Of a run: an action that is not there is a wrong field of it.
pub(super) fn run(error: actions::Error) -> Status {
    use actions::Error as E;
    match error {
        E::Unknown { .. } => field("action.name", error.to_string()),
        E::NoVersion { .. } => field("action.version", error.to_string()),
        error => actions(error),
    }
}

pub(super) fn identity(error: identity::Error) -> Status {
    match error {
        identity::Error::NoToken(_) | identity::Error::NoProject(_) => Status::not_found(error.to_string()),
        identity::Error::Taken(_) => Status::already_exists(error.to_string()),
        identity::Error::Invalid(message) => field("name", message),
        identity::Error::File { .. } => Status::internal(error.to_string()),
        identity::Error::Jobs(error) => jobs(error),
    }
}

pub(super) fn secrets(error: secrets::Error) -> Status {
    use secrets::Error as E;
    match error {
        E::NoSecret { .. } | E::NoRegistry { .. } => Status::not_found(error.to_string()),
        E::Invalid(message) => field("name", message),
        E::KeySetting | E::KeyFile { .. } | E::WrongKey => {
            tracing::error!(%error, "secrets cannot be used");
            Status::internal(error.to_string())
        }
        E::Jobs(error) => jobs(error),
    }
}

pub(super) fn triggers(error: triggers::Error) -> Status {
    use triggers::Error as E;
    match error {
        E::NotFound { .. } => Status::not_found(error.to_string()),
        E::RequestReused(_) => Status::already_exists(error.to_string()),
        E::Changed(_) => Status::aborted(error.to_string()),
        E::NoWebhook(_) => Status::failed_precondition(error.to_string()),
        E::TooMany { .. } | E::DiskLow(_) => Status::resource_exhausted(error.to_string()),
        E::Invalid(errors) => invalid(errors),
        E::Secrets(error) => secrets(error),
        E::Actions(error) => actions(error),
        E::Jobs(error) => jobs(error),
    }
}

/// For an agent: what is gone or cannot be opened stays so, and asking again does not help.
pub(super) fn unknown_secret(error: secrets::Error) -> Status {
    match error {
        secrets::Error::WrongKey => Status::not_found(error.to_string()),
        error => secrets(error),
    }
}

pub(super) fn resolve(error: ResolveError) -> Status {
    match error {
        ResolveError::NotFound(_) => Status::not_found(error.to_string()),
        ResolveError::Ambiguous { .. } => field("job", error.to_string()),
        ResolveError::Failed(error) => jobs(error),
    }
}

pub(super) fn of_submit(error: SubmitError) -> Refusal {
    match error {
        SubmitError::RequestIdReused { .. } | SubmitError::RequestOfRemoved { .. } => {
            Refusal::new(Code::AlreadyExists, error.to_string())
        }
        SubmitError::BadInput { field, message } => FieldError::new(field, message).into(),
        SubmitError::OverQuota { .. } => Refusal::new(Code::ResourceExhausted, error.to_string()),
    }
}

pub(super) fn batch(error: BatchError) -> Status {
    match error {
        BatchError::RequestIdReused { .. } | BatchError::RequestOfRemoved { .. } => {
            Status::already_exists(error.to_string())
        }
        BatchError::Refused(error) => of_submit(error).into(),
        BatchError::Rows(_) => Status::invalid_argument(error.to_string()),
    }
}

/// FAILED_PRECONDITION tells an agent that the attempt is not its own any more, and nothing else may.
pub(super) fn of_refusal(refusal: &lifecycle::Refusal) -> Refusal {
    use lifecycle::Refusal as R;
    let code = match refusal {
        R::Fenced | R::AlreadyFinished(_) | R::AlreadyReported | R::Illegal { .. } => {
            Code::FailedPrecondition
        }
        R::Expired | R::NotYet => Code::Aborted,
        // The same report is refused for ever: pages that the agent sent are not here.
        R::ManifestIncomplete(_) => Code::DataLoss,
    };
    let text = match refusal {
        R::Fenced => format!("fenced: {refusal}"),
        _ => refusal.to_string(),
    };
    Refusal::new(code, text)
}

pub(super) fn refusal(refusal: &lifecycle::Refusal) -> Status {
    of_refusal(refusal).into()
}

pub(super) fn blobs(error: blobs::Error) -> Status {
    let code = if error.is_transient() { Code::Unavailable } else { Code::Internal };
    tracing::warn!(%error, "object store");
    Status::new(code, error.to_string())
}

pub(super) fn of_logs(error: &log_store::Error) -> Refusal {
    let code = match error {
        log_store::Error::Full { .. } => Code::ResourceExhausted,
        log_store::Error::TooLong { .. } => Code::OutOfRange,
        log_store::Error::Malformed(_) => Code::InvalidArgument,
        log_store::Error::Failed { .. } => {
            tracing::error!(%error, "the log store failed");
            Code::Unavailable
        }
    };
    Refusal::new(code, error.to_string())
}

/// For those who read a log: where it lies is no matter of theirs.
pub(super) fn logs(error: &log_store::Error) -> Status {
    let refusal = of_logs(error);
    match error {
        log_store::Error::Full { .. } | log_store::Error::Failed { .. } => {
            Status::new(refusal.code, "the log cannot be read now; the controller's own log says why")
        }
        log_store::Error::TooLong { .. } | log_store::Error::Malformed(_) => refusal.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_controller_keeps_its_things_is_not_told_to_its_callers() {
        let path = std::path::PathBuf::from("/srv/longshore/logs");
        let error = std::sync::Arc::new(std::io::Error::other("broken"));
        let log = logs(&log_store::Error::Failed { path, error });
        let failed =
            jobs::Error::Store(store::Error::Failed("/srv/longshore/truth.db is malformed".to_owned()));
        let database = jobs(failed);
        assert_eq!((log.code(), database.code()), (Code::Unavailable, Code::Internal));
        for status in [log, database] {
            assert!(!status.message().contains("/srv"), "{status:?}");
        }
    }

    #[test]
    fn a_list_of_files_that_is_not_whole_is_not_reported_again_as_it_is() {
        let refused = of_refusal(&lifecycle::Refusal::ManifestIncomplete("1 of 2 pages".to_owned()));
        assert!(!refused.is_transient() && refused.code != Code::FailedPrecondition, "{refused:?}");
    }
}
