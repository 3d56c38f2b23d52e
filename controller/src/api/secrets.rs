//! Secrets and registry credentials, for people: names and times come out, values never.

use super::{Context, access, auth, status};
use crate::{identity::Caller, secrets::Shown, store::SecretKind};
use longshore_common::wire;
use longshore_proto::v1;
use tonic::{Request, Status};

/// The project a call is about, once it is known that it may be.
fn project(context: &Context, caller: &Caller, asked: &str) -> Result<String, Status> {
    Ok(access::asked(context, caller, asked)?.name.clone())
}

pub(super) async fn set(
    context: &Context,
    request: Request<v1::SetSecretRequest>,
) -> Result<v1::SetSecretResponse, Status> {
    let caller = auth::caller(&request)?;
    let v1::SetSecretRequest { project: asked, name, value } = request.into_inner();
    let project = project(context, &caller, &asked)?;
    caller.touches(&name);
    let set = context.secrets.set(&project, &name, &value, &caller.who().to_string()).await;
    Ok(v1::SetSecretResponse { secret: Some(secret(set.map_err(status::secrets)?)) })
}

pub(super) fn list(
    context: &Context,
    request: Request<v1::ListSecretsRequest>,
) -> Result<v1::ListSecretsResponse, Status> {
    let caller = auth::caller(&request)?;
    let project = project(context, &caller, &request.get_ref().project)?;
    let secrets = context.secrets.list(&project, SecretKind::Secret);
    Ok(v1::ListSecretsResponse { secrets: secrets.into_iter().map(secret).collect() })
}

pub(super) async fn remove(
    context: &Context,
    request: Request<v1::RemoveSecretRequest>,
) -> Result<v1::RemoveSecretResponse, Status> {
    let caller = auth::caller(&request)?;
    let v1::RemoveSecretRequest { project: asked, name } = request.into_inner();
    let project = project(context, &caller, &asked)?;
    caller.touches(&name);
    context.secrets.remove(&project, &name).await.map_err(status::secrets)?;
    Ok(v1::RemoveSecretResponse {})
}

pub(super) async fn set_registry(
    context: &Context,
    request: Request<v1::SetRegistryRequest>,
) -> Result<v1::SetRegistryResponse, Status> {
    let caller = auth::caller(&request)?;
    let v1::SetRegistryRequest { project: asked, host, username, password } = request.into_inner();
    let project = project(context, &caller, &asked)?;
    caller.touches(&host);
    let by = caller.who().to_string();
    let set = context.secrets.set_registry(&project, &host, (&username, &password), &by).await;
    Ok(v1::SetRegistryResponse { registry: Some(registry(set.map_err(status::secrets)?)) })
}

pub(super) fn list_registries(
    context: &Context,
    request: Request<v1::ListRegistriesRequest>,
) -> Result<v1::ListRegistriesResponse, Status> {
    let caller = auth::caller(&request)?;
    let project = project(context, &caller, &request.get_ref().project)?;
    let registries = context.secrets.list(&project, SecretKind::Registry);
    Ok(v1::ListRegistriesResponse { registries: registries.into_iter().map(registry).collect() })
}

pub(super) async fn remove_registry(
    context: &Context,
    request: Request<v1::RemoveRegistryRequest>,
) -> Result<v1::RemoveRegistryResponse, Status> {
    let caller = auth::caller(&request)?;
    let v1::RemoveRegistryRequest { project: asked, host } = request.into_inner();
    let project = project(context, &caller, &asked)?;
    caller.touches(&host);
    context.secrets.remove_registry(&project, &host).await.map_err(status::secrets)?;
    Ok(v1::RemoveRegistryResponse {})
}

fn secret(shown: Shown) -> v1::Secret {
    v1::Secret {
        name: shown.name,
        created_at: Some(wire::timestamp_to(shown.created_at)),
        created_by: shown.created_by,
        updated_at: Some(wire::timestamp_to(shown.updated_at)),
    }
}

fn registry(shown: Shown) -> v1::Registry {
    v1::Registry {
        host: shown.name,
        username: shown.username,
        created_at: Some(wire::timestamp_to(shown.created_at)),
        created_by: shown.created_by,
        updated_at: Some(wire::timestamp_to(shown.updated_at)),
    }
}
