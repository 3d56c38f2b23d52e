//! The service `Batches`. Reads requests, calls `jobs`, writes answers. Decides nothing about a job.

use super::{Context, actions, auth, page_size, status, submit, views};
use crate::identity::Caller;
use crate::jobs::{
    BatchError, BatchFilter, BatchView, Changes, LARGEST_BATCH, MadeBatch, NewBatch, Order, Room, SubmitError,
};
use futures::{Stream, StreamExt as _, stream};
use longshore_common::{
    fields::{FieldError, FieldErrors},
    ids::ShortId,
    job::{self, JobSpec, file::each::MOST_ROWS},
    wire::{self, status::Refusal},
};
use longshore_proto::v1;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    pin::Pin,
    sync::Arc,
    time::Duration,
};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tonic::{Request, Response, Status, Streaming};

/// Refused rows that are told.
const TOLD: usize = 1_000;
const NAME: usize = 128;
/// Counts that change faster are told together.
const PACE: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) struct Service(pub(super) Arc<Context>);

type Answer<T> = Result<Response<T>, Status>;
type Batches = Pin<Box<dyn Stream<Item = Result<v1::WatchBatchResponse, Status>> + Send>>;

#[tonic::async_trait]
impl v1::batches_server::Batches for Service {
    async fn create(
        &self,
        request: Request<Streaming<v1::CreateBatchRequest>>,
    ) -> Answer<v1::CreateBatchResponse> {
        let caller = auth::caller(&request)?;
        Box::pin(create(&self.0, &caller, request.into_inner())).await.map(Response::new)
    }

    async fn get(&self, request: Request<v1::GetBatchRequest>) -> Answer<v1::GetBatchResponse> {
        let caller = auth::caller(&request)?;
        let view = found(&self.0, &caller, &request.into_inner().batch).await?;
        Ok(Response::new(v1::GetBatchResponse { batch: Some(views::batch(&view)) }))
    }

    async fn list(&self, request: Request<v1::ListBatchesRequest>) -> Answer<v1::ListBatchesResponse> {
        list(&self.0, &auth::caller(&request)?, request.into_inner()).await.map(Response::new)
    }

    type WatchStream = Batches;

    async fn watch(&self, request: Request<v1::WatchBatchRequest>) -> Answer<Batches> {
        let caller = auth::caller(&request)?;
        watch(&self.0, &caller, &request.into_inner().batch).await.map(Response::new)
    }

    async fn cancel(&self, request: Request<v1::CancelBatchRequest>) -> Answer<v1::CancelBatchResponse> {
        let caller = auth::caller(&request)?;
        let request = request.into_inner();
        let id = resolve(&self.0, &caller, &request.batch).await?;
        let by = caller.who().to_string();
        let view = self.0.jobs.cancel_batch(&id, &by, &request.reason).await.map_err(status::jobs)?;
        caller.touches(&view.id);
        caller.touches_project(&view.project);
        Ok(Response::new(v1::CancelBatchResponse { batch: Some(views::batch(&view)) }))
    }

    async fn retry(&self, request: Request<v1::RetryBatchRequest>) -> Answer<v1::CreateBatchResponse> {
        let caller = auth::caller(&request)?;
        self.0.disk.check()?;
        let v1::RetryBatchRequest { request_id, batch, cancelled } = request.into_inner();
        let mut errors = FieldErrors::new();
        let request_id = submit::request_id(request_id, &mut errors);
        errors.into_result(()).map_err(status::invalid)?;
        let id = resolve(&self.0, &caller, &batch).await?;
        let again = (&id, batch.as_str());
        let new = self.0.jobs.batch_again(again, cancelled, request_id, submit::submitter(&caller)).await;
        let new = new.map_err(status::jobs)?;
        let errors = without_secrets(&self.0, &new);
        if !errors.is_empty() {
            return Ok(Response::new(refused(errors)));
        }
        let made = self.0.jobs.make_batch(new).await.map_err(status::jobs)?;
        answer(&self.0, &caller, made).await.map(Response::new)
    }
}

/// Rows that name secrets which are not there any more.
fn without_secrets(context: &Context, batch: &NewBatch) -> BTreeMap<u32, Refusal> {
    let check = |(row, order): &(u32, Order)| {
        let mut errors = FieldErrors::new();
        context.secrets.check(&batch.project, order.spec(), &order.own(), &mut errors);
        errors.into_result(()).err().map(|errors| (*row, errors.into()))
    };
    batch.jobs.iter().filter_map(check).collect()
}

async fn resolve(context: &Context, caller: &Caller, text: &str) -> Result<ShortId, Status> {
    if text.is_empty() {
        return Err(status::field("batch", "is empty; give an id, the beginning of one, or a name"));
    }
    context.jobs.resolve_batch(text, caller.scope()).await.map_err(status::jobs)
}

async fn found(context: &Context, caller: &Caller, text: &str) -> Result<BatchView, Status> {
    let id = resolve(context, caller, text).await?;
    context.jobs.batch(&id).await.map_err(status::jobs)
}

async fn list(
    context: &Context,
    caller: &Caller,
    request: v1::ListBatchesRequest,
) -> Result<v1::ListBatchesResponse, Status> {
    if !request.project.is_empty() {
        auth::check_project(caller, &request.project)?;
    }
    let project = Some(request.project).filter(|project| !project.is_empty());
    let project = project.or_else(|| caller.scope().map(str::to_owned));
    let filter = BatchFilter { project, unfinished: request.unfinished };
    let size = page_size(request.page_size, 50, 1_000);
    let page = context.jobs.batches(&filter, size, &request.page_token).await.map_err(status::jobs)?;
    Ok(v1::ListBatchesResponse {
        batches: page.items.iter().map(views::batch).collect(),
        next_page_token: page.next.unwrap_or_default(),
    })
}

async fn create(
    context: &Context,
    caller: &Caller,
    mut messages: Streaming<v1::CreateBatchRequest>,
) -> Result<v1::CreateBatchResponse, Status> {
    use v1::create_batch_request::Part;
    context.disk.check()?;
    let Some(Part::Header(header)) = messages.message().await?.and_then(|message| message.part) else {
        return Err(status::field("header", "is missing: it is the first message"));
    };
    let header = read_header(context, caller, header)?;
    let requests = collect(&mut messages).await?;
    let request = header.request_id.clone().map(|id| (id, digest(&header, &requests)));
    let mut batch = NewBatch {
        request,
        project: header.project,
        name: header.name,
        max_parallel: header.max_parallel,
        retry_of: None,
        submitter: submit::submitter(caller),
        jobs: Vec::new(),
    };
    if !is_repeat(context, &batch).await? {
        let (orders, errors) = read_jobs(context, caller, &batch.project, requests).await;
        if !errors.is_empty() {
            return Ok(refused(errors));
        }
        batch.jobs = orders;
    }
    answer(context, caller, context.jobs.make_batch(batch).await.map_err(status::jobs)?).await
}

struct Header {
    request_id: Option<String>,
    project: String,
    name: String,
    max_parallel: Option<u32>,
}

fn read_header(context: &Context, caller: &Caller, header: v1::BatchHeader) -> Result<Header, Status> {
    let mut errors = FieldErrors::new();
    let request_id = submit::request_id(header.request_id, &mut errors);
    let project = submit::of_caller(caller, header.project);
    if header.name.len() > NAME || header.name.chars().any(char::is_control) {
        errors.push("name", format!("is {NAME} characters on one line at most"));
    }
    if errors.take(job::check_name("project", &project)).is_some() {
        super::access::project(context, caller, &project)?;
        caller.touches_project(&project);
    }
    let max_parallel = Some(header.max_parallel).filter(|bound| *bound > 0);
    let header = Header { request_id, project, name: header.name, max_parallel };
    errors.into_result(header).map_err(status::invalid)
}

/// All jobs, within their bounds.
async fn collect(messages: &mut Streaming<v1::CreateBatchRequest>) -> Result<Vec<v1::SubmitRequest>, Status> {
    use v1::create_batch_request::Part;
    let (mut requests, mut room) = (Vec::new(), LARGEST_BATCH);
    while let Some(message) = messages.message().await? {
        let Some(Part::Jobs(jobs)) = message.part else {
            return Err(status::field("header", "came twice: what follows it are jobs"));
        };
        room = room.checked_sub(jobs.encoded_len()).ok_or_else(|| {
            status::field(
                "jobs",
                format!("are more than {} MiB together; split the batch", LARGEST_BATCH >> 20),
            )
        })?;
        requests.extend(jobs.jobs);
        if requests.len() > MOST_ROWS {
            return Err(status::field("jobs", format!("are more than {MOST_ROWS}; split the batch")));
        }
    }
    if requests.is_empty() {
        return Err(status::field("jobs", "are none: a batch has one at least"));
    }
    Ok(requests)
}

/// Of all that was sent, but for values of secrets: their names count.
fn digest(header: &Header, requests: &[v1::SubmitRequest]) -> Vec<u8> {
    let mut digest = Sha256::new();
    let mut add = |bytes: Vec<u8>| {
        digest.update((bytes.len() as u64).to_be_bytes());
        digest.update(bytes);
    };
    let plain = |value: serde_json::Result<Vec<u8>>| value.expect("plain data with text keys");
    add(plain(serde_json::to_vec(&(&header.name, header.max_parallel))));
    for request in requests {
        let spec = request.spec.clone().unwrap_or_default();
        match &request.action {
            Some(run) => {
                add(wire::submitted_run(run.clone(), spec)
                    .map(|run| actions::sent(&run))
                    .unwrap_or_default());
            }
            None => {
                add(JobSpec::try_from(spec).map(|spec| plain(serde_json::to_vec(&spec))).unwrap_or_default())
            }
        }
        let secrets: BTreeSet<_> = request.secrets.keys().collect();
        add(plain(serde_json::to_vec(&secrets)));
    }
    digest.finalize().to_vec()
}

/// Its jobs were taken, and had what they need: what was removed since does not refuse the repeat.
async fn is_repeat(context: &Context, batch: &NewBatch) -> Result<bool, Status> {
    match &batch.request {
        Some((request, _)) => {
            context.jobs.batch_requested(&batch.project, request).await.map_err(status::jobs)
        }
        None => Ok(false),
    }
}

/// The jobs with their rows, or what is wrong with which of them.
async fn read_jobs(
    context: &Context,
    caller: &Caller,
    project: &str,
    requests: Vec<v1::SubmitRequest>,
) -> (Vec<(u32, Order)>, BTreeMap<u32, Refusal>) {
    let (mut orders, mut errors) = (Vec::with_capacity(requests.len()), BTreeMap::new());
    let mut room = Room::default();
    // All rows run one version of an action, whatever is applied meanwhile.
    let mut latest: HashMap<String, u32> = HashMap::new();
    for (row, mut request) in (1..).zip(requests) {
        let own = !request.request_id.is_empty() || !request.project.is_empty();
        project.clone_into(&mut request.project);
        let run = request.action.as_mut().filter(|run| run.version == 0);
        let asked = run.map(|run| {
            run.version = latest.get(&run.name).copied().unwrap_or_default();
            run.name.clone()
        });
        let read = if own {
            Err(FieldError::new("request_id", "and project are said in the header, and not by a job").into())
        } else {
            submit::read(context, caller, request).await
        };
        match read {
            Ok(order) => {
                if let (Some(name), Some(version)) = (asked, order.version()) {
                    latest.insert(name, version);
                }
                if !room.takes(&order) {
                    let most = LARGEST_BATCH >> 20;
                    let message = format!(
                        "the jobs up to here are more than {most} MiB, with what their actions say; split the batch"
                    );
                    errors.insert(row, FieldError::new("", message).into());
                    break;
                }
                orders.push((row, order));
            }
            Err(refusal) => drop(errors.insert(row, refusal)),
        }
    }
    (orders, errors)
}

fn refused(errors: BTreeMap<u32, Refusal>) -> v1::CreateBatchResponse {
    let left_out = u32::try_from(errors.len().saturating_sub(TOLD)).unwrap_or(u32::MAX);
    let told = errors.into_iter().take(TOLD);
    v1::CreateBatchResponse {
        errors: told.map(|(row, error)| v1::RowError { row, error: Some(error.into()) }).collect(),
        errors_left_out: left_out,
        ..v1::CreateBatchResponse::default()
    }
}

async fn answer(
    context: &Context,
    caller: &Caller,
    made: Result<MadeBatch, BatchError>,
) -> Result<v1::CreateBatchResponse, Status> {
    let MadeBatch { id, existing } = match made {
        Ok(made) => made,
        Err(BatchError::Rows(rows)) => {
            let refusal = |(row, error): (u32, SubmitError)| (row, status::of_submit(error));
            return Ok(refused(rows.into_iter().map(refusal).collect()));
        }
        Err(error) => return Err(status::batch(error)),
    };
    let view = context.jobs.batch(&id).await.map_err(status::jobs)?;
    caller.touches(&view.id);
    caller.touches_project(&view.project);
    if !existing {
        context.counters.submitted.add(view.total.into());
    }
    let batch = Some(views::batch(&view));
    Ok(v1::CreateBatchResponse { batch, existing, ..v1::CreateBatchResponse::default() })
}

async fn watch(context: &Arc<Context>, caller: &Caller, text: &str) -> Result<Batches, Status> {
    let id = resolve(context, caller, text).await?;
    let changes = context.jobs.nudges().changes();
    let concerns = context.jobs.watch_batch(&id).await.map_err(status::jobs)?;
    let watcher = Watcher { context: Arc::clone(context), id, changes, concerns, told: None };
    let messages = stream::try_unfold(watcher, |mut watcher| async move {
        let message = watcher.next().await?;
        Ok::<_, Status>(message.map(|message| (message, watcher)))
    });
    Ok(messages.boxed())
}

struct Watcher<F> {
    context: Arc<Context>,
    id: ShortId,
    changes: Receiver<Changes>,
    concerns: F,
    told: Option<BatchView>,
}

impl<F: Fn(&[crate::jobs::Change]) -> bool> Watcher<F> {
    async fn next(&mut self) -> Result<Option<v1::WatchBatchResponse>, Status> {
        loop {
            if self.told.as_ref().is_some_and(|told| told.counts.unfinished() == 0) {
                return Ok(None);
            }
            if self.told.is_some() {
                self.change().await?;
            }
            let view = self.context.jobs.batch(&self.id).await.map_err(status::jobs)?;
            if self.told.as_ref() != Some(&view) {
                let batch = Some(views::batch(&view));
                self.told = Some(view);
                return Ok(Some(v1::WatchBatchResponse { batch }));
            }
        }
    }

    /// Until something of the batch may have changed, and a moment longer: what came meanwhile is counted with it.
    async fn change(&mut self) -> Result<(), Status> {
        loop {
            tokio::select! {
                received = self.changes.recv() => match received {
                    Ok(changes) if !(self.concerns)(&changes) => continue,
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return Err(status::leaving()),
                },
                () = self.context.shutdown.triggered() => return Err(status::leaving()),
            }
            tokio::time::sleep(PACE).await;
            self.changes = self.changes.resubscribe();
            return Ok(());
        }
    }
}
