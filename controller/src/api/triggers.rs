//! Triggers, for people.

use super::{
    Context, access, at_most, auth, page_size,
    status::{self, triggers as refused},
};
use crate::{
    identity::{Caller, Token, Who},
    store::FiringState,
    triggers::{Applied, FiringView, TriggerView},
};
use longshore_common::{
    fields::FieldErrors,
    ids::FiringId,
    trigger::{MOST_PAYLOAD, TriggerSpec},
    wire,
};
use longshore_proto::v1;
use serde_json::Value;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// Triggers of one call.
const BATCH: usize = 100;

#[derive(Debug)]
pub(super) struct Service(pub(super) Arc<Context>);

type Answer<T> = Result<Response<T>, Status>;

impl Service {
    /// The project a call is about, once it is known that it may be.
    fn project(&self, caller: &Caller, asked: &str) -> Result<String, Status> {
        Ok(access::asked(&self.0, caller, asked)?.name.clone())
    }

    /// The same for a change of one trigger.
    fn one<T>(&self, request: &Request<T>, asked: &str, name: &str) -> Result<(Caller, String), Status> {
        let caller = auth::caller(request)?;
        let project = self.project(&caller, asked)?;
        caller.touches(name);
        Ok((caller, project))
    }
}

fn token(caller: &Caller) -> Result<Token, Status> {
    match caller.who() {
        Who::Token(token) => Ok(token.clone()),
        Who::Nobody | Who::Agent(_) => Err(Status::internal("a call came past its guard")),
    }
}

#[tonic::async_trait]
impl v1::triggers_server::Triggers for Service {
    async fn apply(&self, request: Request<v1::ApplyTriggersRequest>) -> Answer<v1::ApplyTriggersResponse> {
        let caller = auth::caller(&request)?;
        let request = request.into_inner();
        at_most("triggers", request.triggers.len(), BATCH)?;
        let project = self.project(&caller, &request.project)?;
        let specs = read(request.triggers).map_err(status::invalid)?;
        specs.iter().for_each(|spec| caller.touches(&spec.name));
        let owner = token(&caller)?;
        let applied = self.0.triggers.apply(&project, specs, &owner, request.dry_run).await;
        let applied = applied.map_err(refused)?;
        Ok(Response::new(v1::ApplyTriggersResponse {
            triggers: applied.into_iter().map(|one| shown_apply(one, &self.0.base_url)).collect(),
        }))
    }

    async fn get(&self, request: Request<v1::GetTriggerRequest>) -> Answer<v1::GetTriggerResponse> {
        let caller = auth::caller(&request)?;
        let project = self.project(&caller, &request.get_ref().project)?;
        let view = self.0.triggers.get(&project, &request.get_ref().name).await.map_err(refused)?;
        Ok(Response::new(v1::GetTriggerResponse { trigger: Some(shown(&view, &self.0.base_url)) }))
    }

    async fn list(&self, request: Request<v1::ListTriggersRequest>) -> Answer<v1::ListTriggersResponse> {
        let caller = auth::caller(&request)?;
        let v1::ListTriggersRequest { project: of, page_size: size, page_token } = request.into_inner();
        let project = self.project(&caller, &of)?;
        let page = self.0.triggers.list(&project, &page_token, page_size(size, 50, 500)).await;
        let page = page.map_err(refused)?;
        Ok(Response::new(v1::ListTriggersResponse {
            triggers: page.items.iter().map(|view| shown(view, &self.0.base_url)).collect(),
            next_page_token: page.next.unwrap_or_default(),
        }))
    }

    async fn list_firings(
        &self,
        request: Request<v1::ListFiringsRequest>,
    ) -> Answer<v1::ListFiringsResponse> {
        let caller = auth::caller(&request)?;
        let request = request.into_inner();
        let project = self.project(&caller, &request.project)?;
        let size = page_size(request.page_size, 50, 500);
        let before = match request.page_token.as_str() {
            "" => None,
            text => {
                let wrong = |_| status::field("page_token", "is no page of this list; start without one");
                Some(text.parse::<FiringId>().map_err(wrong)?)
            }
        };
        let firings =
            self.0.triggers.history(&project, &request.name, before, size).await.map_err(refused)?;
        let full = firings.len() >= size as usize;
        let next = firings.last().filter(|_| full).map(|last| last.id.to_string());
        Ok(Response::new(v1::ListFiringsResponse {
            firings: firings.iter().map(firing).collect(),
            next_page_token: next.unwrap_or_default(),
        }))
    }

    async fn set_enabled(
        &self,
        request: Request<v1::SetTriggerEnabledRequest>,
    ) -> Answer<v1::SetTriggerEnabledResponse> {
        let asked = request.get_ref().clone();
        let (_, project) = self.one(&request, &asked.project, &asked.name)?;
        let view = self.0.triggers.enable(&project, &asked.name, asked.enabled).await.map_err(refused)?;
        Ok(Response::new(v1::SetTriggerEnabledResponse { trigger: Some(shown(&view, &self.0.base_url)) }))
    }

    async fn fire(&self, request: Request<v1::FireTriggerRequest>) -> Answer<v1::FireTriggerResponse> {
        let asked = request.get_ref().clone();
        let (caller, project) = self.one(&request, &asked.project, &asked.name)?;
        if asked.payload.len() > MOST_PAYLOAD {
            let problem = format!("has {} bytes; {} KiB at most", asked.payload.len(), MOST_PAYLOAD >> 10);
            return Err(status::field("payload", problem));
        }
        let payload = match asked.payload.as_str() {
            "" => Value::Object(serde_json::Map::new()),
            text => serde_json::from_str(text)
                .map_err(|error| status::field("payload", format!("is no JSON: {error}")))?,
        };
        if asked.request_id.len() > 200 {
            return Err(status::field("request_id", "has more than 200 bytes"));
        }
        let request = Some(asked.request_id.as_str()).filter(|id| !id.is_empty());
        let (trigger, by) = ((project.as_str(), asked.name.as_str()), caller.who().to_string());
        let fired = self.0.triggers.fire(trigger, payload, &by, request).await.map_err(refused)?;
        if let Some(job) = &fired.job {
            caller.touches(job);
        }
        Ok(Response::new(v1::FireTriggerResponse { firing: Some(firing(&fired)) }))
    }

    async fn adopt(&self, request: Request<v1::AdoptTriggerRequest>) -> Answer<v1::AdoptTriggerResponse> {
        let asked = request.get_ref().clone();
        let (caller, project) = self.one(&request, &asked.project, &asked.name)?;
        let view = self.0.triggers.adopt(&project, &asked.name, &token(&caller)?).await.map_err(refused)?;
        Ok(Response::new(v1::AdoptTriggerResponse { trigger: Some(shown(&view, &self.0.base_url)) }))
    }

    async fn rotate_secret(
        &self,
        request: Request<v1::RotateTriggerSecretRequest>,
    ) -> Answer<v1::RotateTriggerSecretResponse> {
        let asked = request.get_ref().clone();
        let (caller, project) = self.one(&request, &asked.project, &asked.name)?;
        let by = caller.who().to_string();
        let (view, secret) = self.0.triggers.rotate(&project, &asked.name, &by).await.map_err(refused)?;
        Ok(Response::new(v1::RotateTriggerSecretResponse {
            trigger: Some(shown(&view, &self.0.base_url)),
            secret,
        }))
    }

    async fn remove(&self, request: Request<v1::RemoveTriggerRequest>) -> Answer<v1::RemoveTriggerResponse> {
        let asked = request.get_ref().clone();
        let (_, project) = self.one(&request, &asked.project, &asked.name)?;
        self.0.triggers.remove(&project, &asked.name).await.map_err(refused)?;
        Ok(Response::new(v1::RemoveTriggerResponse {}))
    }
}

/// All of them, or everything that is wrong with any.
fn read(messages: Vec<v1::TriggerSpec>) -> Result<Vec<TriggerSpec>, FieldErrors> {
    let mut errors = FieldErrors::new();
    let mut specs: Vec<TriggerSpec> = Vec::with_capacity(messages.len());
    let several = messages.len() > 1;
    if messages.is_empty() {
        errors.push("triggers", "holds none");
    }
    for (index, message) in messages.into_iter().enumerate() {
        let place = if several { format!("triggers[{index}]") } else { String::new() };
        match wire::submitted_trigger(message) {
            Ok(spec) if specs.iter().any(|known| known.name == spec.name) => {
                errors.push(format!("{place}.name"), format!("`{}` is there twice", spec.name));
            }
            Ok(spec) => specs.push(spec),
            Err(wrong) => wrong.into_iter().for_each(|error| errors.add(error.under(&place))),
        }
    }
    errors.into_result(specs)
}

fn shown_apply(applied: Applied, base: &str) -> v1::AppliedTrigger {
    v1::AppliedTrigger {
        trigger: Some(shown(&applied.trigger, base)),
        change: applied.change.to_owned(),
        changed: applied.changed,
        secret: applied.secret.unwrap_or_default(),
    }
}

fn shown(view: &TriggerView, base: &str) -> v1::Trigger {
    let hook_url = view.hook_path.as_ref().map(|path| format!("{}{path}", base.trim_end_matches('/')));
    v1::Trigger {
        id: view.id.to_string(),
        project: view.project.clone(),
        spec: Some((&view.spec).into()),
        enabled: view.enabled,
        owner: view.owner.clone(),
        owner_problem: view.owner_problem.clone().unwrap_or_default(),
        hook_path: view.hook_path.clone().unwrap_or_default(),
        next_at: view.next_at.map(wire::timestamp_to),
        problem: view.problem.clone().unwrap_or_default(),
        created_at: Some(wire::timestamp_to(view.created_at)),
        updated_at: Some(wire::timestamp_to(view.updated_at)),
        last: view.last.as_ref().map(firing),
        hook_url: hook_url.unwrap_or_default(),
    }
}

fn firing(view: &FiringView) -> v1::TriggerFiring {
    v1::TriggerFiring {
        id: view.id.to_string(),
        at: Some(wire::timestamp_to(view.at)),
        kind: view.kind.as_str().to_owned(),
        cause: view.cause.clone(),
        state: match view.state() {
            FiringState::Pending => v1::FiringState::Pending,
            FiringState::Fired => v1::FiringState::Fired,
            FiringState::Skipped => v1::FiringState::Skipped,
            FiringState::Refused => v1::FiringState::Refused,
        } as i32,
        reason: view.reason.clone(),
        job: view.job.as_ref().map(ToString::to_string).unwrap_or_default(),
        depth: view.depth,
    }
}
