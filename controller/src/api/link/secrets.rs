//! What an attempt may know, for the agent that has it.

use super::{Caller, Context, live, status};
use longshore_proto::v1;
use tonic::Status;

pub(super) async fn fetch(
    context: &Context,
    caller: &Caller,
    request: v1::FetchSecretsRequest,
) -> Result<v1::FetchSecretsResponse, Status> {
    let attempt = live(context, caller, request.r#ref)?.attempt;
    let job = context.jobs.get(attempt.job).await.map_err(status::jobs)?;
    let opened =
        context.secrets.open(job.id, &job.project, &job.spec).await.map_err(status::unknown_secret)?;
    let values = opened.values.into_iter().map(|(name, value)| (name, value.to_vec().into()));
    let login = opened.login.map(|(host, username, password)| v1::RegistryLogin {
        host,
        username,
        password: password.to_vec().into(),
    });
    let mut answer = v1::FetchSecretsResponse { values: values.collect(), login, trigger: None };
    if let Some(origin) = &job.spec.trigger {
        let file = context.triggers.file_of(&job.project, origin).await.map_err(status::triggers)?;
        let file =
            file.ok_or_else(|| status::not_found("what started this job is not remembered any more"))?;
        answer.trigger = Some(v1::TriggerFile {
            name: origin.name.clone(),
            kind: origin.kind.as_str().to_owned(),
            content: file.into_bytes().into(),
        });
    }
    Ok(answer)
}
