//! Refusals: one form inside, two on the wire (a gRPC status with `google.rpc.BadRequest`, and `RequestError` in
//! batches).

use crate::fields::{FieldError, FieldErrors};
use longshore_proto::v1;
use std::fmt;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    /// What happened, to which thing, and what to do.
    pub message: String,
    /// Wrong fields of the request, if that is why.
    pub fields: FieldErrors,
}

impl Refusal {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), fields: FieldErrors::new() }
    }

    /// The request itself is wrong.
    pub fn invalid(fields: FieldErrors) -> Self {
        let message = fields.to_string();
        Self { code: Code::InvalidArgument, message, fields }
    }

    /// Whether the same request may be answered otherwise later.
    pub const fn is_transient(&self) -> bool {
        matches!(
            self.code,
            Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Aborted
        )
    }
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<FieldErrors> for Refusal {
    fn from(fields: FieldErrors) -> Self {
        Self::invalid(fields)
    }
}

impl From<FieldError> for Refusal {
    fn from(field: FieldError) -> Self {
        Self::invalid(field.into())
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        if refusal.fields.is_empty() {
            return Self::new(refusal.code, refusal.message);
        }
        let violations =
            refusal.fields.into_iter().map(|field| FieldViolation::new(field.path, field.message));
        let details = ErrorDetails::with_bad_request(violations.collect::<Vec<_>>());
        Self::with_error_details(refusal.code, refusal.message, details)
    }
}

impl From<&Status> for Refusal {
    fn from(status: &Status) -> Self {
        let violations = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
        let fields = violations.into_iter().map(|field| FieldError::new(field.field, field.description));
        Self { code: status.code(), message: status.message().to_owned(), fields: fields.collect() }
    }
}

impl From<Refusal> for v1::RequestError {
    fn from(refusal: Refusal) -> Self {
        let field = |field: FieldError| v1::FieldError { path: field.path, message: field.message };
        Self {
            code: refusal.code as i32,
            message: refusal.message,
            fields: refusal.fields.into_iter().map(field).collect(),
        }
    }
}

impl From<v1::RequestError> for Refusal {
    fn from(message: v1::RequestError) -> Self {
        let fields = message.fields.into_iter().map(|field| FieldError::new(field.path, field.message));
        Self { code: Code::from_i32(message.code), message: message.message, fields: fields.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_survives_both_forms() {
        let mut fields = FieldErrors::new();
        fields.push("resources.memory", "is negative");
        fields.push("image", "is empty");
        let wrong = Refusal::invalid(fields);
        let gone = Refusal::new(Code::NotFound, "no job `x`");
        for refusal in [wrong, gone] {
            assert_eq!(Refusal::from(&Status::from(refusal.clone())), refusal);
            assert_eq!(Refusal::from(v1::RequestError::from(refusal.clone())), refusal);
        }
    }
}
