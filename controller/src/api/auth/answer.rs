//! Refusals in the caller's own protocol.

use crate::{
    enrolment,
    identity::{Denied, Token},
    jobs,
};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode, header};
use longshore_common::{access::Role, ids::AgentId};
use std::time::Duration;
use tonic::{Code, Status};

/// Why a call was not made.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    code: Code,
    message: String,
    /// There have been enough lines like it.
    silent: bool,
}

impl Refused {
    fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), silent: false }
    }

    pub(super) fn role(token: &Token, least: Role) -> Self {
        let message = format!("token `{}` has role {}; this takes at least {least}", token.name, token.role);
        Self::new(Code::PermissionDenied, message)
    }

    pub(super) fn bound(token: &Token) -> Self {
        let project = token.project.as_deref().unwrap_or_default();
        let message =
            format!("token `{}` is bound to project `{project}`; this takes one of all projects", token.name);
        Self::new(Code::PermissionDenied, message)
    }

    pub(super) fn elsewhere(token: &Token, asked: &str) -> Self {
        let project = token.project.as_deref().unwrap_or_default();
        let message = format!("token `{}` is bound to project `{project}`, not to `{asked}`", token.name);
        Self::new(Code::PermissionDenied, message)
    }

    pub(super) fn too_fast(token: &str) -> Self {
        let message = format!("token `{token}` calls too often; slow down, or send batches");
        Self { silent: true, ..Self::new(Code::ResourceExhausted, message) }
    }

    pub(super) fn agent_too_fast(agent: AgentId) -> Self {
        let message = format!("agent {agent} calls too often; its calls are taken again in a moment");
        Self { silent: true, ..Self::new(Code::ResourceExhausted, message) }
    }

    pub(super) fn too_wrong() -> Self {
        let message = "too many refused tokens from this address; try again in a minute";
        Self { silent: true, ..Self::new(Code::ResourceExhausted, message) }
    }

    pub(super) fn late(deadline: Duration) -> Self {
        let message = format!("no answer within {} s; try again", deadline.as_secs());
        Self::new(Code::DeadlineExceeded, message)
    }

    pub(super) fn too_many_joins() -> Self {
        let message = "too many machines join from this address; try again in a second";
        Self { silent: true, ..Self::new(Code::ResourceExhausted, message) }
    }

    pub(super) fn unwritten(error: &jobs::Error) -> Self {
        Self::new(Code::Unavailable, format!("the audit log cannot be written: {error}; try again"))
    }

    pub(super) fn broken() -> Self {
        Self::new(Code::Internal, "the call ended by a mistake of the controller's; its log says which")
    }

    pub(super) const fn is_worth_a_line(&self) -> bool {
        !self.silent
    }

    /// Whoever called may not, as opposed to what they asked for.
    pub(super) fn is_denial(&self) -> bool {
        matches!(self.code, Code::Unauthenticated | Code::PermissionDenied)
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// As gRPC spells it.
    pub(super) const fn code_name(&self) -> &'static str {
        match self.code {
            Code::Ok => "ok",
            Code::Cancelled => "CANCELLED",
            Code::Unknown => "UNKNOWN",
            Code::InvalidArgument => "INVALID_ARGUMENT",
            Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Code::NotFound => "NOT_FOUND",
            Code::AlreadyExists => "ALREADY_EXISTS",
            Code::PermissionDenied => "PERMISSION_DENIED",
            Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Code::FailedPrecondition => "FAILED_PRECONDITION",
            Code::Aborted => "ABORTED",
            Code::OutOfRange => "OUT_OF_RANGE",
            Code::Unimplemented => "UNIMPLEMENTED",
            Code::Internal => "INTERNAL",
            Code::Unavailable => "UNAVAILABLE",
            Code::DataLoss => "DATA_LOSS",
            Code::Unauthenticated => "UNAUTHENTICATED",
        }
    }

    pub(super) fn status(&self) -> Status {
        Status::new(self.code, &self.message)
    }

    pub(super) fn into_response(self, grpc: bool) -> Response {
        if grpc {
            return Status::new(self.code, self.message).into_http();
        }
        let status = match self.code {
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::PermissionDenied => StatusCode::FORBIDDEN,
            Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        // Without the header that makes a browser ask for a password.
        (status, format!("{}\n", self.message)).into_response()
    }
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Self {
        Self::new(Code::Unauthenticated, denied.to_string())
    }
}

impl From<enrolment::Denied> for Refused {
    fn from(denied: enrolment::Denied) -> Self {
        Self::new(Code::Unauthenticated, denied.to_string())
    }
}

/// What a handler refused, as far as the head of its answer says.
pub(super) fn refusal_of(response: &Response) -> Option<Refused> {
    if let Some(status) = Status::from_header_map(response.headers()) {
        return (status.code() != Code::Ok).then(|| Refused::new(status.code(), status.message()));
    }
    let status = response.status();
    let code = match status {
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        _ if status.is_client_error() || status.is_server_error() => Code::Unknown,
        _ => return None,
    };
    Some(Refused::new(code, status.to_string()))
}

pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.is_some_and(|value| value.starts_with("application/grpc"))
}
