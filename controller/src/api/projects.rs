//! The tenants, for people.

use super::{
    Context, access,
    agents::orders::{author, note},
    auth, secrets, status, views,
};
use crate::identity::{DEFAULT_PROJECT, ExecPolicy, KleinkramSettings, Project, Quotas, Settings, Weight};
use longshore_common::{
    clock::Timestamp,
    fields::{FieldError, FieldErrors},
    fleet::Pause,
    job::kleinkram::shapes,
    wire,
};
use longshore_proto::v1;
use serde_json::json;
use std::sync::Arc;
use tonic::{Request, Response, Status};

#[derive(Debug)]
pub(super) struct Service(pub(super) Arc<Context>);

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl v1::projects_server::Projects for Service {
    async fn put(&self, request: Request<v1::PutProjectRequest>) -> Answer<v1::PutProjectResponse> {
        let caller = auth::caller(&request)?;
        let request = request.into_inner();
        let asked = wire::required("project", request.project).map_err(status::invalid)?;
        let settings = settings(&self.0, &asked).map_err(status::invalid)?;
        caller.touches_project(&asked.name);
        let known = self.0.identity.project(&asked.name).ok();
        if request.create && known.is_some() {
            return Err(Status::already_exists(format!("there is a project `{}`", asked.name)));
        }
        let new = known.map_or_else(|| Project::new(&asked.name), |known| (*known).clone());
        let put = self.0.identity.put_project(Project { settings, ..new }).await.map_err(status::identity)?;
        Ok(Response::new(v1::PutProjectResponse { project: Some(shown(&self.0, &put)) }))
    }

    async fn get(&self, request: Request<v1::GetProjectRequest>) -> Answer<v1::GetProjectResponse> {
        let caller = auth::caller(&request)?;
        let asked = Some(request.get_ref().project.as_str()).filter(|name| !name.is_empty());
        let name = asked.or(caller.scope()).unwrap_or(DEFAULT_PROJECT);
        let project = access::project(&self.0, &caller, name)?;
        let used = self.0.jobs.usage(&project.name).await.map_err(status::jobs)?;
        let paused = self.0.jobs.paused(Some(&project.name));
        let project = Some(views::project(&project, Some(&used), paused.as_ref()));
        Ok(Response::new(v1::GetProjectResponse { project }))
    }

    async fn list(&self, request: Request<v1::ListProjectsRequest>) -> Answer<v1::ListProjectsResponse> {
        let caller = auth::caller(&request)?;
        let mut projects = self.0.jobs.projects();
        projects.retain(|project| caller.sees(&project.name));
        let projects = projects.iter().map(|project| shown(&self.0, project)).collect();
        Ok(Response::new(v1::ListProjectsResponse { projects }))
    }

    async fn set_secret(&self, request: Request<v1::SetSecretRequest>) -> Answer<v1::SetSecretResponse> {
        secrets::set(&self.0, request).await.map(Response::new)
    }

    async fn list_secrets(
        &self,
        request: Request<v1::ListSecretsRequest>,
    ) -> Answer<v1::ListSecretsResponse> {
        secrets::list(&self.0, request).map(Response::new)
    }

    async fn remove_secret(
        &self,
        request: Request<v1::RemoveSecretRequest>,
    ) -> Answer<v1::RemoveSecretResponse> {
        secrets::remove(&self.0, request).await.map(Response::new)
    }

    async fn set_registry(
        &self,
        request: Request<v1::SetRegistryRequest>,
    ) -> Answer<v1::SetRegistryResponse> {
        secrets::set_registry(&self.0, request).await.map(Response::new)
    }

    async fn list_registries(
        &self,
        request: Request<v1::ListRegistriesRequest>,
    ) -> Answer<v1::ListRegistriesResponse> {
        secrets::list_registries(&self.0, request).map(Response::new)
    }

    async fn remove_registry(
        &self,
        request: Request<v1::RemoveRegistryRequest>,
    ) -> Answer<v1::RemoveRegistryResponse> {
        secrets::remove_registry(&self.0, request).await.map(Response::new)
    }

    async fn pause(&self, request: Request<v1::PauseProjectRequest>) -> Answer<v1::PauseProjectResponse> {
        let caller = auth::caller(&request)?;
        let request = request.into_inner();
        let project = access::asked(&self.0, &caller, &request.project)?;
        let pause = Pause { note: note(&request.note)?, author: author(&caller), at: Timestamp::now() };
        self.0.jobs.pause(Some(&project.name), pause).await.map_err(status::jobs)?;
        Ok(Response::new(v1::PauseProjectResponse { project: Some(shown(&self.0, &project)) }))
    }

    async fn resume(&self, request: Request<v1::ResumeProjectRequest>) -> Answer<v1::ResumeProjectResponse> {
        let caller = auth::caller(&request)?;
        let project = access::asked(&self.0, &caller, &request.into_inner().project)?;
        self.0.jobs.resume(Some(&project.name)).await.map_err(status::jobs)?;
        Ok(Response::new(v1::ResumeProjectResponse { project: Some(shown(&self.0, &project)) }))
    }
}

fn shown(context: &Context, project: &Project) -> v1::Project {
    views::project(project, None, context.jobs.paused(Some(&project.name)).as_ref())
}

fn kleinkram(context: &Context, asked: v1::ProjectKleinkram, errors: &mut FieldErrors) -> KleinkramSettings {
    let text = |text: String| if text.is_empty() { None } else { Some(text) };
    let settings = KleinkramSettings {
        project_uuid: text(asked.project_uuid),
        api_endpoint: text(asked.api_endpoint),
        s3_endpoint: text(asked.s3_endpoint),
        minter: text(asked.minter),
    };
    shapes("project.kleinkram", &settings.usual(), errors);
    if let Some(name) = &settings.minter
        && let Err(problem) = context.run_keys.knows(name)
    {
        errors.push("project.kleinkram.minter", problem);
    }
    settings
}

fn settings(context: &Context, asked: &v1::Project) -> Result<Settings, FieldErrors> {
    let mut errors = FieldErrors::new();
    let quotas = asked.quotas.unwrap_or_default();
    let images = asked.images.clone().unwrap_or_default();
    // Read as in a configuration file: the same patterns are refused.
    let images = serde_json::from_value(json!({
        "allow": images.allow, "deny": images.deny, "require_digest": images.require_digest,
    }));
    let images = images.map_err(|error| FieldError::new("project.images", error.to_string()));
    let retention =
        asked.retention.map(|length| wire::duration_from("project.retention", &length)).transpose();
    let weight = match asked.weight {
        0 => Ok(Weight::default()),
        weight => Weight::new(weight).ok_or_else(|| {
            FieldError::new("project.weight", format!("{weight} is not between 1 and {}", Weight::MOST))
        }),
    };
    let exec = match v1::ExecPolicy::try_from(asked.exec) {
        Ok(v1::ExecPolicy::Unspecified) => Ok(ExecPolicy::default()),
        Ok(v1::ExecPolicy::Off) => Ok(ExecPolicy::Off),
        Ok(v1::ExecPolicy::Operator) => Ok(ExecPolicy::Operator),
        Ok(v1::ExecPolicy::Own) => Ok(ExecPolicy::Own),
        Err(_) => Err(FieldError::new("project.exec", format!("{} is not a policy", asked.exec))),
    };
    let settings = Settings {
        exec: errors.take(exec).unwrap_or_default(),
        quotas: Quotas {
            queued: quotas.queued,
            running: quotas.running,
            cpu_millis: quotas.cpu_millis,
            memory: quotas.memory_bytes,
            gpus: quotas.gpus,
            storage: quotas.storage_bytes,
        },
        images: errors.take(images).unwrap_or_default(),
        retention: errors.take(retention).flatten(),
        weight: errors.take(weight).unwrap_or_default(),
        kleinkram: kleinkram(context, asked.kleinkram.clone().unwrap_or_default(), &mut errors),
    };
    errors.into_result(settings)
}
