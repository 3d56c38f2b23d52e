//! The service `Actions`.

use super::{Context, access, auth, page_size, status, submit, views};
use crate::actions::{Applied, Asked, ListFilter};
use crate::identity::Caller;
use longshore_common::{
    action::Invocation,
    fields::FieldErrors,
    job::{JobSpec, check_name},
    wire,
};
use longshore_proto::v1;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use tonic::{Request, Response, Status};

#[derive(Debug)]
pub(super) struct Service(pub(super) Arc<Context>);

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl v1::actions_server::Actions for Service {
    async fn apply(&self, request: Request<v1::ApplyActionRequest>) -> Answer<v1::ApplyActionResponse> {
        let caller = auth::caller(&request)?;
        let request = request.into_inner();
        let project = project(&self.0, &caller, &request.project)?;
        let spec = wire::required("spec", request.spec).map_err(status::invalid)?;
        caller.touches(&spec.name);
        let action = wire::submitted_action(spec).map_err(status::invalid)?;
        let sent = ("apply", &action, request.if_version);
        let asked = asked(&caller, project, request.request_id, &sent)?;
        let actions = &self.0.actions;
        let applied = if request.dry_run {
            actions.rehearse(&asked, action, request.if_version).await
        } else {
            self.0.disk.check()?;
            actions.apply(asked, action, request.if_version).await
        };
        let Applied { view, changed, changes } = applied.map_err(status::actions)?;
        let changes = changes.into_iter().map(v1::ActionChange::from).collect();
        Ok(Response::new(v1::ApplyActionResponse { action: Some(views::action(&view)), changed, changes }))
    }

    async fn get(&self, request: Request<v1::GetActionRequest>) -> Answer<v1::GetActionResponse> {
        let caller = auth::caller(&request)?;
        let v1::GetActionRequest { project: of, name, version } = request.into_inner();
        let project = project(&self.0, &caller, &of)?;
        let view = self.0.actions.get(&project, &name, version).await.map_err(status::actions)?;
        Ok(Response::new(v1::GetActionResponse { action: Some(views::action(&view)) }))
    }

    async fn list(&self, request: Request<v1::ListActionsRequest>) -> Answer<v1::ListActionsResponse> {
        let caller = auth::caller(&request)?;
        let v1::ListActionsRequest { project: of, archived, labels, page_size: size, page_token } =
            request.into_inner();
        let project = project(&self.0, &caller, &of)?;
        let filter = ListFilter { project, archived, labels: labels.into_iter().collect() };
        let page = self.0.actions.list(&filter, page_size(size, 50, 500), &page_token).await;
        let page = page.map_err(status::actions)?;
        Ok(Response::new(v1::ListActionsResponse {
            actions: page.items.iter().map(views::action).collect(),
            next_page_token: page.next.unwrap_or_default(),
        }))
    }

    async fn list_versions(
        &self,
        request: Request<v1::ListActionVersionsRequest>,
    ) -> Answer<v1::ListActionVersionsResponse> {
        let caller = auth::caller(&request)?;
        let v1::ListActionVersionsRequest { project: of, name, page_size: size, page_token } =
            request.into_inner();
        let project = project(&self.0, &caller, &of)?;
        let page = self.0.actions.versions(&project, &name, page_size(size, 50, 500), &page_token).await;
        let page = page.map_err(status::actions)?;
        Ok(Response::new(v1::ListActionVersionsResponse {
            versions: page.items.iter().map(views::action).collect(),
            next_page_token: page.next.unwrap_or_default(),
        }))
    }

    async fn diff(&self, request: Request<v1::DiffActionRequest>) -> Answer<v1::DiffActionResponse> {
        let caller = auth::caller(&request)?;
        let v1::DiffActionRequest { project: of, name, from, to } = request.into_inner();
        let project = project(&self.0, &caller, &of)?;
        let diff = self.0.actions.diff(&project, &name, (from, to)).await;
        let (from, to, changes) = diff.map_err(status::actions)?;
        let changes = changes.into_iter().map(v1::ActionChange::from).collect();
        Ok(Response::new(v1::DiffActionResponse { from, to, changes }))
    }

    async fn archive(&self, request: Request<v1::ArchiveActionRequest>) -> Answer<v1::ArchiveActionResponse> {
        let caller = auth::caller(&request)?;
        let v1::ArchiveActionRequest { request_id, project: of, name } = request.into_inner();
        let project = project(&self.0, &caller, &of)?;
        let asked = asked(&caller, project, request_id, &("archive", &name))?;
        caller.touches(&name);
        let view = self.0.actions.archive(asked, &name).await.map_err(status::actions)?;
        Ok(Response::new(v1::ArchiveActionResponse { action: Some(views::action(&view)) }))
    }

    async fn restore(&self, request: Request<v1::RestoreActionRequest>) -> Answer<v1::RestoreActionResponse> {
        let caller = auth::caller(&request)?;
        let v1::RestoreActionRequest { request_id, project: of, name, version } = request.into_inner();
        let project = project(&self.0, &caller, &of)?;
        let asked = asked(&caller, project, request_id, &("restore", &name, version))?;
        caller.touches(&name);
        let restored = self.0.actions.restore(asked, &name, version).await;
        let Applied { view, changed, .. } = restored.map_err(status::actions)?;
        Ok(Response::new(v1::RestoreActionResponse { action: Some(views::action(&view)), changed }))
    }

    async fn advise(&self, request: Request<v1::AdviseActionRequest>) -> Answer<v1::AdviseActionResponse> {
        let caller = auth::caller(&request)?;
        let v1::AdviseActionRequest { project: of, name, version } = request.into_inner();
        let project = project(&self.0, &caller, &of)?;
        let advised = self.0.actions.advise(&project, &name, version).await;
        let (view, advice) = advised.map_err(status::actions)?;
        Ok(Response::new(v1::AdviseActionResponse { version: view.version, sizing: Some((&advice).into()) }))
    }
}

/// What a run says, and of which job.
pub(super) type Run = (Invocation, JobSpec);

/// What was sent, as it stays whatever a version makes of it.
pub(super) fn sent((invocation, said): &Run) -> Vec<u8> {
    let Invocation { action, set, said: fields } = invocation;
    let sent = (&action.name, action.version, set, fields, said);
    serde_json::to_vec(&sent).expect("plain data with text keys")
}

/// Two requests of the same id are the same when all that was sent is.
fn asked(
    caller: &Caller,
    project: String,
    request_id: String,
    sent: &impl Serialize,
) -> Result<Asked, Status> {
    let mut errors = FieldErrors::new();
    let id = submit::request_id(request_id, &mut errors);
    errors.into_result(()).map_err(status::invalid)?;
    let sent = serde_json::to_vec(sent).expect("plain data with text keys");
    let request = id.map(|id| (id, Sha256::digest(sent).to_vec()));
    Ok(Asked { project, request, by: caller.who().to_string() })
}

/// The project a call is about, once it is known that it may be.
fn project(context: &Context, caller: &Caller, asked: &str) -> Result<String, Status> {
    check_name("project", access::named(caller, asked)).map_err(status::invalid)?;
    Ok(access::asked(context, caller, asked)?.name.clone())
}
