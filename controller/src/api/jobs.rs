//! The service `Jobs`: the simple calls here, the others in files of their own.

use super::{Context, artifacts, at_most, auth, exec, inputs, logs, page_size, status, submit, views, watch};
use crate::hints;
use crate::identity::Caller;
use crate::jobs::{AttemptView, Error, JobFilter, JobView, Removed, WholeJob};
use crate::results;
use longshore_common::{
    fields::{FieldError, FieldErrors},
    ids::{JobId, ShortId},
    wire,
};
use longshore_proto::v1;
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};

/// Jobs named in one call at most.
const BATCH: usize = 1_000;

#[derive(Debug)]
pub(super) struct Service(pub(super) Arc<Context>);

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl v1::jobs_server::Jobs for Service {
    async fn submit(&self, request: Request<v1::SubmitRequest>) -> Answer<v1::SubmitResponse> {
        submit::one(&self.0, &auth::caller(&request)?, request.into_inner()).await.map(Response::new)
    }

    async fn submit_batch(
        &self,
        request: Request<v1::SubmitBatchRequest>,
    ) -> Answer<v1::SubmitBatchResponse> {
        submit::batch(&self.0, &auth::caller(&request)?, request.into_inner()).await.map(Response::new)
    }

    async fn retry(&self, request: Request<v1::RetryJobRequest>) -> Answer<v1::SubmitResponse> {
        submit::retry(&self.0, &auth::caller(&request)?, request.into_inner()).await.map(Response::new)
    }

    async fn get(&self, request: Request<v1::GetJobRequest>) -> Answer<v1::GetJobResponse> {
        get(&self.0, &auth::caller(&request)?, request.into_inner()).await.map(Response::new)
    }

    async fn list(&self, request: Request<v1::ListJobsRequest>) -> Answer<v1::ListJobsResponse> {
        list(&self.0, &auth::caller(&request)?, request.into_inner()).await.map(Response::new)
    }

    type WatchStream = watch::Jobs;

    async fn watch(&self, request: Request<v1::WatchJobsRequest>) -> Answer<Self::WatchStream> {
        watch::watch(&self.0, &auth::caller(&request)?, request.into_inner()).map(Response::new)
    }

    async fn wait(&self, request: Request<v1::WaitJobRequest>) -> Answer<v1::WaitJobResponse> {
        watch::wait(&self.0, &auth::caller(&request)?, request.into_inner()).await.map(Response::new)
    }

    async fn cancel(&self, request: Request<v1::CancelJobsRequest>) -> Answer<v1::CancelJobsResponse> {
        cancel(&self.0, &auth::caller(&request)?, request.into_inner()).await.map(Response::new)
    }

    async fn remove(&self, request: Request<v1::RemoveJobsRequest>) -> Answer<v1::RemoveJobsResponse> {
        remove(&self.0, &auth::caller(&request)?, request.into_inner()).await.map(Response::new)
    }

    async fn explain(&self, request: Request<v1::ExplainJobRequest>) -> Answer<v1::ExplainJobResponse> {
        let caller = auth::caller(&request)?;
        let asked = request.into_inner();
        let mut run = None;
        let explanation = if asked.spec.is_some() || asked.action.is_some() {
            let whole = asked.action.is_some();
            let (project, spec) = submit::asked(&self.0, &caller, asked).await?;
            run = whole.then(|| v1::JobSpec::from(&spec));
            self.0.jobs.explain_new(&project, &spec).await
        } else {
            let job = resolve(&self.0, &caller, &asked.job).await?;
            self.0.jobs.explain(job).await
        };
        let explanation = explanation.map_err(status::jobs)?;
        let explanation = Some(views::explanation(explanation));
        Ok(Response::new(v1::ExplainJobResponse { explanation, spec: run }))
    }

    type StreamLogsStream = logs::Messages;

    async fn stream_logs(&self, request: Request<v1::StreamLogsRequest>) -> Answer<Self::StreamLogsStream> {
        logs::stream(&self.0, &auth::caller(&request)?, request.into_inner()).await.map(Response::new)
    }

    type ExecStream = exec::Messages;

    async fn exec(&self, request: Request<Streaming<v1::ExecRequest>>) -> Answer<Self::ExecStream> {
        let (caller, from) = (auth::caller(&request)?, exec::address(&request));
        exec::open(&self.0, &caller, from, request.into_inner()).await.map(Response::new)
    }

    async fn list_artifacts(
        &self,
        request: Request<v1::ListArtifactsRequest>,
    ) -> Answer<v1::ListArtifactsResponse> {
        artifacts::list(&self.0, &auth::caller(&request)?, request.into_inner()).await.map(Response::new)
    }

    async fn get_artifact_urls(
        &self,
        request: Request<v1::GetArtifactUrlsRequest>,
    ) -> Answer<v1::GetArtifactUrlsResponse> {
        artifacts::urls(&self.0, &auth::caller(&request)?, request.into_inner()).await.map(Response::new)
    }

    async fn link_results(
        &self,
        request: Request<v1::LinkResultsRequest>,
    ) -> Answer<v1::LinkResultsResponse> {
        artifacts::link(&self.0, &auth::caller(&request)?, request.into_inner()).await.map(Response::new)
    }

    async fn upload_inputs(
        &self,
        request: Request<v1::UploadInputsRequest>,
    ) -> Answer<v1::UploadInputsResponse> {
        inputs::upload(&self.0, &auth::caller(&request)?, request.into_inner()).await.map(Response::new)
    }

    async fn complete_inputs(
        &self,
        request: Request<v1::CompleteInputsRequest>,
    ) -> Answer<v1::CompleteInputsResponse> {
        inputs::complete(&self.0, &auth::caller(&request)?, request.into_inner()).await.map(Response::new)
    }

    async fn create_input(
        &self,
        request: Request<Streaming<v1::CreateInputRequest>>,
    ) -> Answer<v1::CreateInputResponse> {
        inputs::create(&self.0, &auth::caller(&request)?, request.into_inner()).await.map(Response::new)
    }
}

/// The job a client means.
pub(super) async fn resolve(context: &Context, caller: &Caller, text: &str) -> Result<JobId, Status> {
    if text.is_empty() {
        return Err(status::field("job", "is empty; give an id, the beginning of one, or a name"));
    }
    context.jobs.resolve(text, caller.scope()).await.map_err(status::resolve)
}

async fn resolve_all(context: &Context, caller: &Caller, texts: &[String]) -> Result<Vec<JobId>, Status> {
    at_most("jobs", texts.len(), BATCH)?;
    let mut jobs = Vec::with_capacity(texts.len());
    for text in texts {
        jobs.push(resolve(context, caller, text).await?);
    }
    Ok(jobs)
}

/// What a client asked for, read with every mistake at once.
pub(super) fn filter(caller: &Caller, message: Option<v1::JobFilter>) -> Result<JobFilter, Status> {
    let message = message.unwrap_or_default();
    let mut errors = FieldErrors::new();
    let states = message
        .states
        .iter()
        .filter_map(|number| errors.take(wire::job_state("filter.states", *number)))
        .collect();
    if !message.project.is_empty() {
        auth::check_project(caller, &message.project)?;
    }
    let some = |text: String| if text.is_empty() { None } else { Some(text) };
    let filter = JobFilter {
        states,
        labels: message.labels.into_iter().collect(),
        name: some(message.name),
        since: message.since.as_ref().map(wire::timestamp_from),
        project: some(message.project).or_else(|| caller.scope().map(str::to_owned)),
        unfinished: message.unfinished,
        action: some(message.action),
        action_version: (message.action_version > 0).then_some(message.action_version),
        batch: match message.batch.as_str() {
            "" => None,
            text => errors.take(batch_id(text)),
        },
    };
    errors.into_result(filter).map_err(status::invalid)
}

fn batch_id(text: &str) -> Result<ShortId, FieldError> {
    text.parse().map_err(|_| FieldError::new("filter.batch", format!("`{text}` is not the id of a batch")))
}

async fn get(
    context: &Context,
    caller: &Caller,
    request: v1::GetJobRequest,
) -> Result<v1::GetJobResponse, Status> {
    let id = resolve(context, caller, &request.job).await?;
    let whole = context.jobs.whole(id).await.map_err(status::jobs)?;
    let sizing = whole.sizing().map(|advice| (&advice).into());
    let WholeJob { job, attempts, waiting } = whole;
    let waiting = waiting.map(views::explanation);
    let result = result(context, &job, &attempts);
    let hints = hints::about(&job, &attempts, &*context.logs).await.into_iter().map(views::hint).collect();
    let short = job.short_id.as_str();
    let attempts = attempts.iter().map(|attempt| views::attempt(attempt, short)).collect();
    Ok(v1::GetJobResponse { job: Some(views::job(&job)), attempts, waiting, sizing, result, hints })
}

fn result(context: &Context, job: &JobView, attempts: &[AttemptView]) -> Option<v1::ResultLink> {
    let last = attempts.last()?;
    results::link(&context.jobs, &context.base_url, (job, last), results::USUAL).map(views::result_link)
}

async fn list(
    context: &Context,
    caller: &Caller,
    request: v1::ListJobsRequest,
) -> Result<v1::ListJobsResponse, Status> {
    let filter = filter(caller, request.filter)?;
    let size = page_size(request.page_size, 50, 1_000);
    let page = context.jobs.list(&filter, size, &request.page_token).await.map_err(status::jobs)?;
    let waits = context.jobs.waits(&page.items).await.map_err(status::jobs)?;
    Ok(v1::ListJobsResponse {
        jobs: page.items.iter().zip(waits).map(|(job, waits)| v1::Job { waits, ..views::job(job) }).collect(),
        next_page_token: page.next.unwrap_or_default(),
    })
}

async fn cancel(
    context: &Context,
    caller: &Caller,
    request: v1::CancelJobsRequest,
) -> Result<v1::CancelJobsResponse, Status> {
    let jobs = resolve_all(context, caller, &request.jobs).await?;
    let by = caller.who().to_string();
    let views = context.jobs.cancel(jobs, &by, &request.reason).await.map_err(status::jobs)?;
    views.iter().for_each(|view| caller.touches(&view.short_id));
    Ok(v1::CancelJobsResponse { jobs: views.iter().map(views::job).collect() })
}

async fn remove(
    context: &Context,
    caller: &Caller,
    request: v1::RemoveJobsRequest,
) -> Result<v1::RemoveJobsResponse, Status> {
    let jobs = resolve_all(context, caller, &request.jobs).await?;
    // All or none: a list that is half removed is hard to tell from one that is not.
    let Removed { jobs, unfinished, needed } = context.jobs.remove(jobs).await.map_err(status::jobs)?;
    if let Some(job) = unfinished.into_iter().next() {
        return Err(status::jobs(Error::NotEnded { job }));
    }
    if let Some(needed) = needed.into_iter().next() {
        return Err(status::jobs(Error::Needed(needed)));
    }
    jobs.iter().for_each(|job| caller.touches(job));
    let count = u32::try_from(jobs.len()).unwrap_or(u32::MAX);
    Ok(v1::RemoveJobsResponse { removed: count })
}
