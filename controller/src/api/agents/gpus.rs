//! Single GPUs of machines.

use super::{Context, find_one, status, views};
use crate::identity::Caller;
use longshore_common::agent::Gpu;
use longshore_proto::v1;
use tonic::Status;

/// Passed on to the agent, who alone knows what it has set aside.
pub(super) fn reset(
    context: &Context,
    caller: &Caller,
    request: &v1::ResetGpuHealthRequest,
) -> Result<v1::ResetGpuHealthResponse, Status> {
    let agent = find_one(context, &request.agent)?;
    caller.touches(agent.identity.id);
    let Some(uuid) = named(&agent.gpus, &request.gpu) else {
        let message =
            format!("{} has no GPU `{}`: neither an index nor a UUID", agent.identity.name, request.gpu);
        return Err(status::not_found(message));
    };
    if !context.links.reset_gpu(agent.identity.id, uuid.clone()) {
        return Err(Status::failed_precondition(format!(
            "{} is not linked to this controller: say it again when it is online",
            agent.identity.name
        )));
    }
    tracing::info!(agent.id = %agent.identity.id, gpu = uuid, "GPU said to be well");
    Ok(v1::ResetGpuHealthResponse { agent: Some(views::agent(&agent, caller)) })
}

/// The whole GPU, also where one of its instances is named.
fn named(known: &[Gpu], gpu: &str) -> Option<String> {
    let found = known.iter().find(|known| known.uuid == gpu || gpu.parse() == Ok(known.index))?;
    Some(found.parent.as_ref().unwrap_or(&found.uuid).clone())
}
