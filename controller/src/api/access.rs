//! Tokens and the audit log, for people.

use super::{Context, auth, page_size, status, views};
use crate::{
    identity::{self, Who},
    jobs::AuditFilter,
};
use longshore_common::{access::Role, fields::FieldErrors, wire};
use longshore_proto::v1;
use std::sync::Arc;
use tonic::{Request, Response, Status};

#[derive(Debug)]
pub(super) struct Service(pub(super) Arc<Context>);

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl v1::access_server::Access for Service {
    async fn who_am_i(&self, request: Request<v1::WhoAmIRequest>) -> Answer<v1::WhoAmIResponse> {
        let token = match auth::caller(&request)?.who() {
            Who::Token(token) => Some(views::token(token)),
            Who::Nobody | Who::Agent(_) => None,
        };
        Ok(Response::new(v1::WhoAmIResponse { token }))
    }

    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Answer<v1::CreateTokenResponse> {
        let caller = auth::caller(&request)?;
        let request = request.into_inner();
        let mut errors = FieldErrors::new();
        let role = errors.take(wire::role("role", request.role));
        let lifetime = request.lifetime.map(|length| wire::duration_from("lifetime", &length)).transpose();
        let lifetime = errors.take(lifetime).flatten();
        let role = errors.into_result(role).map_err(status::invalid)?.unwrap_or(Role::Viewer);
        let project = Some(request.project).filter(|project| !project.is_empty());
        // An admin of one project makes tokens of that project alone.
        let project = project.or_else(|| caller.scope().map(str::to_owned));
        if let Some(project) = &project {
            auth::check_project(&caller, project)?;
            caller.touches_project(project);
        }
        let by = caller.who().to_string();
        let made = self.0.identity.create_token(&request.name, role, project.as_deref(), lifetime, &by).await;
        let (text, token) = made.map_err(status::identity)?;
        caller.touches(format!("{} ({})", token.name, token.id));
        Ok(Response::new(v1::CreateTokenResponse { token: Some(views::token(&token)), text }))
    }

    async fn list_tokens(&self, request: Request<v1::ListTokensRequest>) -> Answer<v1::ListTokensResponse> {
        let caller = auth::caller(&request)?;
        let tokens = self.0.identity.tokens(caller.scope());
        Ok(Response::new(v1::ListTokensResponse { tokens: tokens.iter().map(views::token).collect() }))
    }

    async fn revoke_token(
        &self,
        request: Request<v1::RevokeTokenRequest>,
    ) -> Answer<v1::RevokeTokenResponse> {
        let caller = auth::caller(&request)?;
        let name = request.into_inner().token;
        let revoked = self.0.identity.revoke_token(&name, caller.scope()).await.map_err(status::identity)?;
        caller.touches(format!("{} ({})", revoked.name, revoked.id));
        Ok(Response::new(v1::RevokeTokenResponse { token: Some(views::token(&revoked)) }))
    }

    async fn list_audit(&self, request: Request<v1::ListAuditRequest>) -> Answer<v1::ListAuditResponse> {
        let request = request.into_inner();
        let filter = AuditFilter {
            actor: Some(request.actor).filter(|actor| !actor.is_empty()),
            since: request.since.as_ref().map(wire::timestamp_from),
            refused: request.refused,
        };
        let size = page_size(request.page_size, 100, 1_000);
        let page = self.0.jobs.audit_lines(&filter, size, &request.page_token).await;
        let page = page.map_err(status::jobs)?;
        Ok(Response::new(v1::ListAuditResponse {
            entries: page.items.iter().map(views::audit).collect(),
            next_page_token: page.next.unwrap_or_default(),
        }))
    }
}

/// The one the call keeps to, else the usual one, unless it names one.
pub(super) fn named<'a>(caller: &'a identity::Caller, asked: &'a str) -> &'a str {
    if asked.is_empty() { caller.scope().unwrap_or(identity::DEFAULT_PROJECT) } else { asked }
}

/// The project a call is about, once it is known that it may be.
pub(super) fn asked(
    context: &Context,
    caller: &identity::Caller,
    asked: &str,
) -> Result<Arc<identity::Project>, Status> {
    let project = project(context, caller, named(caller, asked))?;
    caller.touches_project(&project.name);
    Ok(project)
}

/// Whether there is such a project, and it is there for the caller.
pub(super) fn project(
    context: &Context,
    caller: &identity::Caller,
    name: &str,
) -> Result<Arc<identity::Project>, Status> {
    auth::check_project(caller, name)?;
    context.identity.project(name).map_err(status::identity)
}
