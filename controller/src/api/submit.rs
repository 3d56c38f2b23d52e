//! New jobs: one, many, or an ended one again.

use super::{Context, access, actions, at_most, jobs::resolve, status, views};
use crate::identity::{Caller, DEFAULT_PROJECT, Who};
use crate::jobs::{self, JobAction, NewJob, Order, Submitted, Submitter};
use crate::secrets;
use longshore_common::{
    fields::{FieldError, FieldErrors},
    job::{self, JobSpec, Kleinkram},
    wire::{self, status::Refusal},
};
use longshore_proto::v1;
use tonic::Status;

const BATCH: usize = 1_000;
/// A UUID has 36 characters; a path or a hash fits too.
const REQUEST_ID: usize = 200;

pub(super) async fn one(
    context: &Context,
    caller: &Caller,
    request: v1::SubmitRequest,
) -> Result<v1::SubmitResponse, Status> {
    context.disk.check()?;
    let job = read(context, caller, request).await?;
    let mut results = context.jobs.submit(vec![job]).await.map_err(status::jobs)?;
    let submitted = results.pop().ok_or_else(|| Status::internal("no answer to a submit"))?;
    let submitted = submitted.map_err(|error| Status::from(status::of_submit(error)))?;
    Ok(answer(context, caller, &submitted))
}

pub(super) async fn batch(
    context: &Context,
    caller: &Caller,
    request: v1::SubmitBatchRequest,
) -> Result<v1::SubmitBatchResponse, Status> {
    at_most("requests", request.requests.len(), BATCH)?;
    context.disk.check()?;
    let mut good = Vec::with_capacity(request.requests.len());
    let mut results: Vec<Option<v1::SubmitResult>> = Vec::with_capacity(request.requests.len());
    for request in request.requests {
        match read(context, caller, request).await {
            Ok(job) => {
                good.push(job);
                results.push(None);
            }
            Err(refusal) => results.push(Some(refused(refusal))),
        }
    }
    let mut submitted = context.jobs.submit(good).await.map_err(status::jobs)?.into_iter();
    let results =
        results.into_iter().map(|known| known.or_else(|| Some(result(context, caller, submitted.next()?))));
    let results: Option<Vec<_>> = results.collect();
    let results = results.ok_or_else(|| Status::internal("fewer answers than jobs"))?;
    Ok(v1::SubmitBatchResponse { results })
}

pub(super) async fn retry(
    context: &Context,
    caller: &Caller,
    request: v1::RetryJobRequest,
) -> Result<v1::SubmitResponse, Status> {
    context.disk.check()?;
    let id = resolve(context, caller, &request.job).await?;
    let mut errors = FieldErrors::new();
    let request_id = request_id(request.request_id, &mut errors);
    let spec = if request.resources.is_some() || request.deadlines.is_some() || request.pin {
        let mut spec = (*context.jobs.get(id).await.map_err(status::jobs)?.spec).clone();
        if let Some(resources) = &request.resources {
            wire::overlay_resources(&mut spec.resources, resources, &mut errors);
        }
        if let Some(deadlines) = &request.deadlines {
            wire::overlay_deadlines(&mut spec.deadlines, deadlines, &mut errors);
        }
        if request.pin {
            context.jobs.pin(id, &mut spec).await.map_err(status::jobs)?;
        }
        if let Err(more) = job::validate(&spec) {
            errors.merge(more);
        }
        Some(spec)
    } else {
        None
    };
    let old = context.jobs.get(id).await.map_err(status::jobs)?;
    let own = context.jobs.job_secrets(id).await.map_err(status::jobs)?;
    let own: Vec<_> = own.iter().map(|own| own.name.as_str()).collect();
    if !is_repeat(context, &old.project, request_id.as_deref()).await.map_err(Status::from)? {
        context.secrets.check(&old.project, spec.as_ref().unwrap_or(&old.spec), &own, &mut errors);
    }
    let spec = errors.into_result(spec).map_err(status::invalid)?;
    let submitted =
        context.jobs.retry(id, request_id, spec, submitter(caller)).await.map_err(status::jobs)?;
    let submitted = submitted.map_err(|error| Status::from(status::of_submit(error)))?;
    Ok(answer(context, caller, &submitted))
}

/// A spec that is only asked about.
pub(super) async fn asked(
    context: &Context,
    caller: &Caller,
    asked: v1::ExplainJobRequest,
) -> Result<(String, JobSpec), Status> {
    let project = of_caller(caller, asked.project);
    job::check_name("project", &project).map_err(status::invalid)?;
    access::project(context, caller, &project)?;
    let spec = asked.spec.unwrap_or_default();
    let mut spec = match asked.action {
        Some(run) => {
            let (invocation, said) = wire::submitted_run(run, spec).map_err(status::invalid)?;
            context.actions.job(&project, &invocation, &said).await.map_err(status::run)?.0
        }
        None => wire::submitted_spec(spec).map_err(status::invalid)?,
    };
    context.jobs.complete(&project, &mut spec).map_err(status::invalid)?;
    Ok((project, spec))
}

pub(super) fn submitter(caller: &Caller) -> Option<Submitter> {
    match caller.who() {
        Who::Token(token) => Some(Submitter { token: token.id.clone(), name: token.name.clone() }),
        Who::Nobody | Who::Agent(_) => None,
    }
}

pub(super) fn of_caller(caller: &Caller, project: String) -> String {
    if project.is_empty() { caller.scope().unwrap_or(DEFAULT_PROJECT).to_owned() } else { project }
}

pub(super) async fn read(
    context: &Context,
    caller: &Caller,
    mut request: v1::SubmitRequest,
) -> Result<Order, Refusal> {
    let mut errors = FieldErrors::new();
    let request_id = request_id(request.request_id, &mut errors);
    let project = of_caller(caller, request.project);
    if errors.take(job::check_name("project", &project)).is_some() {
        access::project(context, caller, &project).map_err(|status| Refusal::from(&status))?;
        caller.touches_project(&project);
    }
    let origin = match request.action.take() {
        Some(_) if !errors.is_empty() => return Err(Refusal::invalid(errors)),
        Some(run) => {
            let said = request.spec.take().unwrap_or_default();
            let (spec, origin) = run_of(context, &project, request_id.as_deref(), run, said).await?;
            request.spec = Some((&spec).into());
            Some(origin)
        }
        None => None,
    };
    // Of a spec with other mistakes too: all of them are told at once.
    if let Some(spec) = &request.spec {
        let mut named = JobSpec::for_image("");
        named.secret_env = spec.secret_env.clone().into_iter().collect();
        named.secret_files = spec.secret_files.clone().into_iter().collect();
        named.kleinkram = spec.kleinkram.clone().map(Kleinkram::from);
        let own: Vec<_> = request.secrets.keys().map(String::as_str).collect();
        if !is_repeat(context, &project, request_id.as_deref()).await? {
            context.secrets.check(&project, &named, &own, &mut errors);
        }
    }
    let spec = match request.spec.map(wire::submitted_spec) {
        Some(Ok(spec)) => {
            if !is_repeat(context, &project, request_id.as_deref()).await?
                && let Err(more) = context.jobs.complete(&project, &mut spec.clone())
            {
                errors.merge(more);
            }
            Some(spec)
        }
        Some(Err(more)) => {
            errors.merge(more);
            None
        }
        None => {
            errors.add(FieldError::new("spec", "is missing"));
            None
        }
    };
    let values = request.secrets.into_iter().map(|(name, value)| (name, value.into()));
    let own = match context.secrets.own(&project, values).await {
        Ok(own) => own,
        Err(secrets::Error::Invalid(message)) => {
            errors.push("secrets", message);
            Vec::new()
        }
        Err(error) => return Err(Refusal::from(&status::secrets(error))),
    };
    match spec {
        Some(spec) => {
            let new = NewJob { request_id, project, spec, retry_of: None, own, submitter: submitter(caller) };
            let new = errors.into_result(new).map_err(Refusal::invalid)?;
            Ok(match origin {
                Some((action, sent)) => Order::of_action(new, action, sent),
                None => new.into(),
            })
        }
        None => Err(Refusal::invalid(errors)),
    }
}

/// The whole spec of a run of an action, and what is remembered of where it came from. A repeat of a request is what it
/// was, whatever became of the action.
async fn run_of(
    context: &Context,
    project: &str,
    request_id: Option<&str>,
    run: v1::ActionRun,
    said: v1::JobSpec,
) -> Result<(JobSpec, (JobAction, Vec<u8>)), Refusal> {
    let run = wire::submitted_run(run, said).map_err(Refusal::invalid)?;
    let sent = actions::sent(&run);
    let failed = |error| Refusal::from(&status::jobs(error));
    let made = match request_id {
        Some(request_id) => context.jobs.requested(project, request_id).await.map_err(failed)?,
        None => None,
    };
    if let Some(made) = made {
        let version = run.0.action.version.unwrap_or_default();
        let asked = JobAction { name: run.0.action.name, version };
        return match context.jobs.get(made).await {
            Ok(job) => Ok(((*job.spec).clone(), (job.action.unwrap_or(asked), sent))),
            // That it was removed is told by the submit itself.
            Err(jobs::Error::NotFound { .. }) => Ok((JobSpec::for_image(project), (asked, sent))),
            Err(error) => Err(failed(error)),
        };
    }
    let (invocation, said) = run;
    let (spec, view) = context
        .actions
        .job(project, &invocation, &said)
        .await
        .map_err(|error| Refusal::from(&status::run(error)))?;
    Ok((spec, (JobAction { name: view.action.name.clone(), version: view.version }, sent)))
}

/// Its job was taken, and has or had what it needs: what was removed since does not refuse its repeat.
async fn is_repeat(context: &Context, project: &str, request_id: Option<&str>) -> Result<bool, Refusal> {
    let Some(request_id) = request_id else { return Ok(false) };
    let made = context.jobs.requested(project, request_id).await;
    made.map(|made| made.is_some()).map_err(|error| Refusal::from(&status::jobs(error)))
}

pub(super) fn request_id(text: String, errors: &mut FieldErrors) -> Option<String> {
    if text.len() > REQUEST_ID {
        errors.push("request_id", format!("has {} bytes; {REQUEST_ID} at most", text.len()));
    }
    if text.is_empty() { None } else { Some(text) }
}

fn result(
    context: &Context,
    caller: &Caller,
    submitted: Result<Submitted, crate::jobs::SubmitError>,
) -> v1::SubmitResult {
    match submitted {
        Ok(submitted) => {
            v1::SubmitResult { submitted: Some(answer(context, caller, &submitted)), error: None }
        }
        Err(error) => refused(status::of_submit(error)),
    }
}

fn refused(refusal: Refusal) -> v1::SubmitResult {
    v1::SubmitResult { submitted: None, error: Some(refusal.into()) }
}

fn answer(context: &Context, caller: &Caller, submitted: &Submitted) -> v1::SubmitResponse {
    caller.touches(&submitted.job.short_id);
    if !submitted.existing {
        context.counters.submitted.add(1);
    }
    v1::SubmitResponse { job: Some(views::job(&submitted.job)), existing: submitted.existing }
}
