//! The machines, for people.

mod events;
mod gpus;
mod joining;
pub(super) mod orders;

use super::{Context, auth::caller, enrolment, page_size, status, views};
use crate::jobs::AgentView;
use longshore_proto::v1;
use std::sync::Arc;
use tonic::{Request, Response, Status};

#[derive(Debug)]
pub(super) struct Service(pub(super) Arc<Context>);

#[tonic::async_trait]
impl v1::agents_server::Agents for Service {
    type WatchEventsStream = events::Events;

    async fn list(
        &self,
        request: Request<v1::ListAgentsRequest>,
    ) -> Result<Response<v1::ListAgentsResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let size = page_size(request.page_size, 100, 1_000) as usize;
        let after = after(&request.page_token)?;
        // By name and then id: names need not be unique.
        let mut agents = self.0.jobs.agents();
        agents.sort_by_cached_key(|agent| (agent.identity.name.clone(), agent.identity.id));
        agents.retain(|agent| {
            let key = format!("{} {}", agent.identity.name, agent.identity.id);
            after.as_ref().is_none_or(|after| &key > after)
        });
        let more = agents.len() > size;
        agents.truncate(size);
        let last = agents.last().filter(|_| more);
        let next_page_token = last
            .map(|agent| token(&format!("{} {}", agent.identity.name, agent.identity.id)))
            .unwrap_or_default();
        let agents = agents.iter().map(|agent| views::agent(agent, &caller)).collect();
        Ok(Response::new(v1::ListAgentsResponse { agents, next_page_token }))
    }

    async fn get(
        &self,
        request: Request<v1::GetAgentRequest>,
    ) -> Result<Response<v1::GetAgentResponse>, Status> {
        let caller = caller(&request)?;
        let agent = find(&self.0, &request.into_inner().agent)?;
        Ok(Response::new(v1::GetAgentResponse { agent: Some(views::agent(&agent, &caller)) }))
    }

    async fn create_join_token(
        &self,
        request: Request<v1::CreateJoinTokenRequest>,
    ) -> Result<Response<v1::CreateJoinTokenResponse>, Status> {
        joining::create(&self.0, &caller(&request)?, request.into_inner()).await.map(Response::new)
    }

    async fn list_join_tokens(
        &self,
        _request: Request<v1::ListJoinTokensRequest>,
    ) -> Result<Response<v1::ListJoinTokensResponse>, Status> {
        joining::list(&self.0).await.map(Response::new)
    }

    async fn revoke_join_token(
        &self,
        request: Request<v1::RevokeJoinTokenRequest>,
    ) -> Result<Response<v1::RevokeJoinTokenResponse>, Status> {
        joining::revoke(&self.0, &caller(&request)?, &request.into_inner()).await.map(Response::new)
    }

    async fn remove(
        &self,
        request: Request<v1::RemoveAgentRequest>,
    ) -> Result<Response<v1::RemoveAgentResponse>, Status> {
        joining::remove(&self.0, &caller(&request)?, &request.into_inner()).await.map(Response::new)
    }

    async fn reset_gpu_health(
        &self,
        request: Request<v1::ResetGpuHealthRequest>,
    ) -> Result<Response<v1::ResetGpuHealthResponse>, Status> {
        gpus::reset(&self.0, &caller(&request)?, &request.into_inner()).map(Response::new)
    }

    async fn cordon(
        &self,
        request: Request<v1::CordonRequest>,
    ) -> Result<Response<v1::CordonResponse>, Status> {
        orders::cordon(&self.0, &caller(&request)?, request.into_inner()).await.map(Response::new)
    }

    async fn uncordon(
        &self,
        request: Request<v1::UncordonRequest>,
    ) -> Result<Response<v1::UncordonResponse>, Status> {
        orders::uncordon(&self.0, &caller(&request)?, request.into_inner()).await.map(Response::new)
    }

    async fn drain(&self, request: Request<v1::DrainRequest>) -> Result<Response<v1::DrainResponse>, Status> {
        orders::drain(&self.0, &caller(&request)?, request.into_inner()).await.map(Response::new)
    }

    async fn label(&self, request: Request<v1::LabelRequest>) -> Result<Response<v1::LabelResponse>, Status> {
        orders::label(&self.0, &caller(&request)?, request.into_inner()).await.map(Response::new)
    }

    async fn watch_events(
        &self,
        request: Request<v1::WatchAgentEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        events::watch(&self.0, request.into_inner()).map(Response::new)
    }
}

fn find(context: &Context, name: &str) -> Result<AgentView, Status> {
    context.jobs.agent(name).ok_or_else(|| {
        status::not_found(format!(
            "no agent `{name}`: neither a name nor an id; `longshore agents ls` lists all"
        ))
    })
}

/// The one to be changed: a name that several have names none.
fn find_one(context: &Context, name: &str) -> Result<AgentView, Status> {
    let mut agents = context.jobs.agents_called(name);
    if agents.len() > 1 {
        let ids: Vec<_> = agents.iter().map(|agent| agent.identity.id.to_string()).collect();
        let text =
            format!("{} agents are called `{name}`: say which by its id: {}", ids.len(), ids.join(", "));
        return Err(Status::failed_precondition(text));
    }
    agents.pop().map_or_else(|| find(context, name), Ok)
}

/// Marks a token as one of this list.
const KIND: &str = "agents:";

fn token(key: &str) -> String {
    hex::encode(format!("{KIND}{key}"))
}

fn after(token: &str) -> Result<Option<String>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    hex::decode(token)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| text.strip_prefix(KIND).map(str::to_owned))
        .map(Some)
        .ok_or_else(|| status::jobs(crate::jobs::Error::PageToken))
}
