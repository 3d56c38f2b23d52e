//! Letting machines in, and showing them out.

use super::{Context, enrolment, find_one, status, views};
use crate::{
    enrolment::{JoinTokenView, NewJoinToken},
    identity::Caller,
};
use longshore_common::{
    credential::{JoinTokenId, ParseError},
    wire,
};
use longshore_proto::v1;
use std::time::Duration;
use tonic::Status;

/// One machine, by somebody who types the command now.
const USES: u32 = 1;
const VALID: Duration = Duration::from_secs(3600);
/// Beyond these a token is a password that nobody changes.
const MOST_USES: u32 = 10_000;
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

pub(super) async fn create(
    context: &Context,
    caller: &Caller,
    request: v1::CreateJoinTokenRequest,
) -> Result<v1::CreateJoinTokenResponse, Status> {
    let uses = if request.uses == 0 { USES } else { request.uses };
    if uses > MOST_USES {
        return Err(status::field("uses", format!("is {uses}; at most {MOST_USES}")));
    }
    let valid = request.valid.as_ref().map(|valid| wire::duration_from("valid", valid)).transpose();
    let valid = valid.map_err(status::invalid)?.unwrap_or(VALID);
    if valid.is_zero() || valid > LONGEST {
        return Err(status::field("valid", "must be more than nothing and at most a year"));
    }
    let new = NewJoinToken { uses, valid, created_by: caller.who().to_string() };
    let (token, view) = context.enrolment.create_join_token(new).await.map_err(enrolment::refused)?;
    caller.touches(view.id);
    Ok(v1::CreateJoinTokenResponse {
        join_token: Some(message(view)),
        token: token.reveal(),
        controller: context.base_url.clone(),
    })
}

pub(super) async fn list(context: &Context) -> Result<v1::ListJoinTokensResponse, Status> {
    let tokens = context.enrolment.join_tokens().await.map_err(enrolment::refused)?;
    Ok(v1::ListJoinTokensResponse { tokens: tokens.into_iter().map(message).collect() })
}

pub(super) async fn revoke(
    context: &Context,
    caller: &Caller,
    request: &v1::RevokeJoinTokenRequest,
) -> Result<v1::RevokeJoinTokenResponse, Status> {
    let id: JoinTokenId =
        request.id.parse().map_err(|error: ParseError| status::field("id", error.to_string()))?;
    caller.touches(id);
    match context.enrolment.revoke_join_token(id).await {
        Ok(()) => Ok(v1::RevokeJoinTokenResponse {}),
        Err(crate::enrolment::Error::UnknownToken) => {
            Err(status::not_found(format!("no join token {id}; `longshore agents join-tokens` lists them")))
        }
        Err(error) => Err(enrolment::refused(error)),
    }
}

/// First its credentials, so that it takes no more work, then what it has.
pub(super) async fn remove(
    context: &Context,
    caller: &Caller,
    request: &v1::RemoveAgentRequest,
) -> Result<v1::RemoveAgentResponse, Status> {
    let agent = find_one(context, &request.agent)?;
    if !agent.jobs.is_empty() && !request.force {
        return Err(Status::failed_precondition(format!(
            "agent {} has {} attempts under way: wait for their end, or remove it with --force; they go back to the \
             queue then",
            agent.identity.name,
            agent.jobs.len()
        )));
    }
    let id = agent.identity.id;
    caller.touches(id);
    context.enrolment.remove(id).await.map_err(enrolment::refused)?;
    context.links.end(id);
    if let Some(users) = context.queue.users() {
        users.remove(id).await;
    }
    context.jobs.remove_agent(id, &super::orders::author(caller)).await.map_err(status::jobs)?;
    tracing::info!(agent.id = %id, agent.name = agent.identity.name, "agent removed");
    Ok(v1::RemoveAgentResponse { agent: Some(views::agent(&agent, caller)) })
}

fn message(view: JoinTokenView) -> v1::JoinToken {
    v1::JoinToken {
        id: view.id.to_string(),
        created_at: Some(wire::timestamp_to(view.created_at)),
        expires_at: Some(wire::timestamp_to(view.expires_at)),
        uses: view.uses,
        used: view.used,
        revoked: view.revoked,
        created_by: view.created_by,
    }
}
