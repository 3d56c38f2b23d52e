//! Which agent a call comes from. Nothing else in this folder may ask: a call without a good credential ends here.

use super::Context;
use crate::{
    enrolment::{Denied, Proof},
    http::peer::Peer,
    identity,
};
use http::{Extensions, HeaderMap, header::AUTHORIZATION};
use longshore_common::{
    ids::{AgentId, AttemptRef},
    wire::status::Refusal,
};
use tonic::{Request, Status};

/// An agent that has shown who it is. The guard leaves it with the request.
#[derive(Clone, Debug)]
pub(in crate::api) struct Caller {
    pub(in crate::api) agent: AgentId,
    pub(super) proof: Proof,
    /// For its line in the audit log.
    noted: Option<identity::Caller>,
}

impl Caller {
    /// Whether it would still be taken: a stream asks with every message.
    pub(super) fn check(&self, context: &Context) -> Result<(), Status> {
        context.enrolment.check(&self.proof).map(drop).map_err(denied)
    }

    /// Refuses one part of a call on what is another agent's.
    pub(super) fn not_yours(&self, attempt: AttemptRef) -> Refusal {
        let message = format!("attempt {attempt} is another agent's");
        if let Some(noted) = &self.noted {
            noted.note_denial(&message);
        }
        Refusal::new(tonic::Code::PermissionDenied, message)
    }

    /// An agent speaks for itself alone.
    pub(super) fn is(&self, agent: AgentId) -> Result<(), Status> {
        if agent == self.agent {
            return Ok(());
        }
        Err(Status::permission_denied(format!("agent {} must not speak for agent {agent}", self.agent)))
    }
}

/// Whom the guard let in.
pub(super) fn agent_of<T>(request: &Request<T>) -> Result<Caller, Status> {
    let caller = request.extensions().get::<Caller>().cloned().ok_or_else(|| denied(Denied::NotShown))?;
    Ok(Caller { noted: request.extensions().get().cloned(), ..caller })
}

/// Before the call is looked at.
pub(in crate::api) fn agent(
    context: &Context,
    extensions: &Extensions,
    headers: &HeaderMap,
) -> Result<Caller, Denied> {
    let key = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let proof = shown(extensions.get(), key)?;
    Ok(Caller { agent: context.enrolment.check(&proof)?, proof, noted: None })
}

/// A certificate, or a key.
fn shown(peer: Option<&Peer>, authorization: Option<&str>) -> Result<Proof, Denied> {
    if let Some(certificate) = peer.and_then(|peer| peer.agent.clone()) {
        return Ok(Proof::Certificate(certificate));
    }
    let key = authorization.and_then(|text| text.strip_prefix("Bearer ")?.parse().ok());
    key.map(Proof::Key).ok_or(Denied::NotShown)
}

fn denied(denied: Denied) -> Status {
    Status::unauthenticated(denied.to_string())
}
