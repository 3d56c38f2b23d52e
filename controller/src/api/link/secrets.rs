//! What an attempt may know, for the agent that has it.

use super::{Caller, Context, live, status};
use crate::{lifecycle::Refusal, run_keys};
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
    let (run_key, no_run_key) = if job.spec.mints_key() {
        match context.run_keys.key(attempt, &job).await {
            Ok(key) => (key.as_bytes().to_vec(), String::new()),
            Err(run_keys::Error::NoKey(why)) => (Vec::new(), why),
            Err(run_keys::Error::Over) => return Err(status::of_refusal(&Refusal::Fenced).into()),
            Err(error) if error.is_transient() => return Err(Status::unavailable(error.to_string())),
            Err(error) => return Err(Status::internal(error.to_string())),
        }
    } else {
        Default::default()
    };
    let run_key = run_key.into();
    let mut answer =
        v1::FetchSecretsResponse { values: values.collect(), login, run_key, no_run_key, trigger: None };
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
