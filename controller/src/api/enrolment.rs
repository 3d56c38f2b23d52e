//! The service `Enrolment`, and how its words go over the wire.

use super::{Context, status};
use crate::enrolment::{Asked, Credential, Error};
use longshore_common::{fields::FieldError, ids::AgentId, wire};
use longshore_proto::v1;
use std::sync::Arc;
use tonic::{Code, Request, Response, Status};

#[derive(Debug)]
pub(super) struct Service(pub(super) Arc<Context>);

#[tonic::async_trait]
impl v1::enrolment_server::Enrolment for Service {
    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinResponse>, Status> {
        let caller = super::auth::caller(&request)?;
        let request = request.into_inner();
        let agent = AgentId::from_slice(&request.agent_id)
            .map_err(|error| status::invalid(FieldError::new("agent_id", error.to_string())))?;
        caller.touches(agent);
        let asked = asked(&request.csr, &request.key_hash)?;
        let credential = self.0.enrolment.join(&request.token, agent, asked).await.map_err(refused)?;
        Ok(Response::new(v1::JoinResponse { credential: Some(credential.into()) }))
    }
}

pub(super) fn asked(csr: &[u8], key_hash: &[u8]) -> Result<Asked, Status> {
    match (csr, key_hash) {
        (csr, []) if !csr.is_empty() => Ok(Asked::Certificate(csr.to_vec())),
        ([], hash) if !hash.is_empty() => {
            let hash = hash.try_into().map_err(|_| status::field("key_hash", "is not 32 bytes"))?;
            Ok(Asked::Key(hash))
        }
        _ => Err(status::field("csr", "set one of csr and key_hash")),
    }
}

pub(super) fn refused(error: Error) -> Status {
    let code = match &error {
        Error::UnknownToken | Error::Expired(_) | Error::Revoked | Error::UsedUp(_) => Code::PermissionDenied,
        Error::Removed => Code::Unauthenticated,
        Error::Joined(_) => Code::AlreadyExists,
        Error::Request(_) => Code::InvalidArgument,
        Error::Store(error) if error.is_transient() => Code::Unavailable,
        Error::Pki(_) | Error::Store(_) => {
            tracing::error!(%error, "a credential was not made");
            Code::Internal
        }
    };
    Status::new(code, error.to_string())
}

impl From<Credential> for v1::AgentCredential {
    fn from(credential: Credential) -> Self {
        Self {
            serial: credential.serial.into(),
            certificate: credential.certificate.into(),
            ca: credential.authorities,
            valid: Some(wire::duration_to(credential.valid)),
        }
    }
}
