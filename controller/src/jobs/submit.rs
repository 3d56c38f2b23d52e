//! Submit: one transaction writes the job as `queued`, which is also the outbox.

use super::{
    Jobs,
    command::{Command, Results},
    error::{Error, ResolveError},
    projects::{Projects, Queues},
    types::{InBatch, JobAction, NewJob, Order, SubmitError, Submitted},
    view,
    work::Work,
};
use crate::{
    lifecycle::Job,
    store::{self, BatchRequestRow, JobRow, NewJobRow, RequestRow, Source, Tx, ViewRow},
};
use longshore_common::{
    clock::Timestamp,
    fields::FieldErrors,
    ids::{JobId, ShortId},
    job::{Input, JobSpec, KLEINKRAM, kleinkram},
};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

impl Jobs {
    /// Takes each job or says why not. One refusal does not hinder the others.
    pub async fn submit<O>(&self, jobs: Vec<O>) -> Result<Results<Submitted, SubmitError>, Error>
    where
        O: Into<Order> + Send,
    {
        let mut checked = Vec::with_capacity(jobs.len());
        for job in jobs {
            checked.push(self.check(job).await?);
        }
        if checked.is_empty() { Ok(Vec::new()) } else { self.call(Command::Submit, checked).await }
    }

    pub(super) async fn check(&self, order: impl Into<Order> + Send) -> Result<Checked, Error> {
        let Order { mut new, action, sent } = order.into();
        let digest = digest(&new, sent.as_deref());
        let shared = &self.inner.shared;
        let project = shared.projects.get(&new.project);
        let complete = self.complete(&new.project, &mut new.spec);
        let allowed =
            shared.config.images.check(&new.spec.image).and_then(|()| {
                project.map_or(Ok(()), |project| project.settings.images.check(&new.spec.image))
            });
        let refused = match allowed {
            Ok(()) => match incomplete(complete)
                .or(self.check_inputs(&mut new).await?.err())
                .or(self.check_after(&mut new).await?.err())
            {
                Some(error) => Some(error),
                None => self.is_full(&new.project).await?,
            },
            Err(refusal) => {
                Some(SubmitError::BadInput { field: "image".into(), message: refusal.to_string() })
            }
        };
        Ok(Checked { new, action, digest, refused })
    }

    /// Puts in what the settings of the project say of its contract; answers what is missing still.
    pub fn complete(&self, project: &str, spec: &mut JobSpec) -> Result<(), FieldErrors> {
        if spec.contract != KLEINKRAM {
            return Ok(());
        }
        let known = self.inner.shared.projects.get(project);
        let settings = known.map(|known| known.settings.kleinkram.clone()).unwrap_or_default();
        spec.kleinkram.get_or_insert_default().complete_from(&settings.usual());
        kleinkram::complete(spec, project, settings.minter.is_some())
    }

    /// Names of other jobs become their ids now: a name means its newest job only at this moment.
    async fn check_inputs(&self, new: &mut NewJob) -> Result<Result<(), SubmitError>, Error> {
        for (name, input) in &mut new.spec.inputs {
            let bad = |message: String| SubmitError::BadInput { field: format!("inputs.{name}"), message };
            match input {
                Input::Uploaded { id } => {
                    if !self.inner.shared.store.input_exists(&new.project, id).await? {
                        return Ok(Err(bad(no_input(id))));
                    }
                }
                Input::Job { job, path } => {
                    let id = match self.resolve(job, Some(&new.project)).await {
                        Ok(id) => id,
                        Err(ResolveError::Failed(error)) => return Err(error),
                        Err(error) => return Ok(Err(bad(error.to_string()))),
                    };
                    let view = self.get(id).await?;
                    if !view.state.is_terminal() {
                        let message =
                            format!("job {} has not ended ({}); wait for it", view.short_id, view.state);
                        return Ok(Err(bad(message)));
                    }
                    if !self.left_anything_at(id, path).await? {
                        let short = &view.short_id;
                        let message = format!(
                            "job {short} left nothing at `{path}` in /out; `longshore artifacts ls {short}` lists what it left"
                        );
                        return Ok(Err(bad(message)));
                    }
                    view.short_id.as_str().clone_into(job);
                }
                Input::Url { .. } | Input::Share(_) => {}
            }
        }
        Ok(Ok(()))
    }

    /// Names become ids here too. What a job waits for may end or have ended.
    async fn check_after(&self, new: &mut NewJob) -> Result<Result<(), SubmitError>, Error> {
        for (index, after) in new.spec.after.iter_mut().enumerate() {
            match self.resolve(&after.job, Some(&new.project)).await {
                Ok(id) => self.get(id).await?.short_id.as_str().clone_into(&mut after.job),
                Err(ResolveError::Failed(error)) => return Err(error),
                Err(error) => {
                    let field = format!("after[{index}].job");
                    return Ok(Err(SubmitError::BadInput { field, message: error.to_string() }));
                }
            }
        }
        Ok(Ok(()))
    }

    /// Whether the outputs of an ended job have this file or folder. All of them may be nothing.
    async fn left_anything_at(&self, job: JobId, path: &str) -> Result<bool, Error> {
        let path = path.trim_matches('/').as_bytes();
        if path.is_empty() {
            return Ok(true);
        }
        let attempts = self.attempts(job).await?;
        let Some(attempt) = attempts.iter().rev().find(|attempt| attempt.committed) else { return Ok(false) };
        let folder = [path, b"/"].concat();
        let file = self.find_artifacts(attempt, &[path.to_vec()]).await?.iter().any(Option::is_some);
        Ok(file || !self.artifacts(attempt, &folder, 1, "").await?.items.is_empty())
    }
}

/// A job whose inputs were looked at.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) new: NewJob,
    pub(super) action: Option<JobAction>,
    /// Of what the client sent: what a name meant is not part of the request.
    digest: Vec<u8>,
    /// Counts only if the request was not made before: its job has what it needs, or has had it.
    pub(super) refused: Option<SubmitError>,
}

/// Requests of the batch that were made before.
#[derive(Debug, Default)]
pub(super) struct Known {
    requests: HashMap<(String, String), RequestRow>,
    jobs: HashMap<JobId, ViewRow>,
    /// Of those that the batch names, the ones that are there.
    sources: HashSet<Source>,
    pub(super) queues: Queues,
    /// Those for batches, and whether their batches are still there.
    pub(super) batches: HashMap<(String, String), (BatchRequestRow, bool)>,
}

impl Known {
    pub(super) async fn load(
        batch: &[Command],
        projects: &Projects,
        tx: &mut Tx,
    ) -> Result<Self, store::Error> {
        let mut ids = Vec::new();
        let mut sources = Vec::new();
        for Checked { new, refused, .. } in batch.iter().flat_map(checked) {
            ids.extend(new.request_id.as_deref().map(|id| (new.project.as_str(), id)));
            if refused.is_none() {
                sources.extend(Source::all(&new.spec));
            }
        }
        // The jobs of a batch are made of the same things.
        let sources: HashSet<_> = sources.into_iter().collect();
        let sources: Vec<_> = sources.into_iter().collect();
        let batches = batch_requests(batch, tx).await?;
        tx.touch_inputs(&sources, Timestamp::now()).await?;
        let sources = tx.present(&sources).await?.into_iter().collect();
        let queues = projects.queues(projects_of(batch), tx).await?;
        let requests = tx.find_requests(&ids).await?;
        let jobs: Vec<_> = requests.iter().map(|request| request.job).collect();
        let jobs = tx.load_views(&jobs).await?.into_iter().map(|view| (view.row.job.id, view)).collect();
        let requests =
            requests.into_iter().map(|row| ((row.project.clone(), row.request_id.clone()), row)).collect();
        Ok(Self { requests, jobs, sources, queues, batches })
    }

    /// They were there when they were looked at: a removal may have come in between.
    pub(super) fn missing(&self, spec: &JobSpec, work: &Work) -> Option<SubmitError> {
        spec.inputs
            .iter()
            .find_map(|(name, input)| {
                let source = Source::of(input)?;
                let message = match &source {
                    Source::Job(job) if work.is_gone(job) || !self.sources.contains(&source) => {
                        format!("job {job} was removed, and its outputs with it")
                    }
                    Source::Input(id) if !self.sources.contains(&source) => no_input(id),
                    Source::Job(_) | Source::Input(_) => return None,
                };
                Some(SubmitError::BadInput { field: format!("inputs.{name}"), message })
            })
            .or_else(|| {
                let gone =
                    |job: &String| work.is_gone(job) || !self.sources.contains(&Source::Job(job.clone()));
                let index = spec.after.iter().position(|after| gone(&after.job))?;
                let message = format!("job {} was removed", spec.after[index].job);
                Some(SubmitError::BadInput { field: format!("after[{index}].job"), message })
            })
    }
}

/// Projects that the batch submits to.
fn projects_of(batch: &[Command]) -> HashSet<&str> {
    batch.iter().flat_map(checked).map(|checked| checked.new.project.as_str()).collect()
}

/// The new jobs of a command.
fn checked(command: &Command) -> &[Checked] {
    match command {
        Command::Submit(call) => &call.input,
        Command::Batch(call) => &call.input.jobs,
        _ => &[],
    }
}

async fn batch_requests(
    batch: &[Command],
    tx: &mut Tx,
) -> Result<HashMap<(String, String), (BatchRequestRow, bool)>, store::Error> {
    let mut found = HashMap::new();
    for command in batch {
        let Command::Batch(call) = command else { continue };
        let Some((request, _)) = &call.input.request else { continue };
        if let Some(row) = tx.find_batch_request(&call.input.project, request).await? {
            found.insert((call.input.project.clone(), request.clone()), row);
        }
    }
    Ok(found)
}

/// The submits of one batch: two of them may carry the same request.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) known: Known,
}

impl Round {
    pub(super) const fn new(known: Known) -> Self {
        Self { known }
    }

    pub(super) fn apply(&mut self, jobs: &[Checked], work: &mut Work) -> Results<Submitted, SubmitError> {
        jobs.iter().map(|job| self.one(job, work)).collect()
    }

    fn one(&mut self, job: &Checked, work: &mut Work) -> Result<Submitted, SubmitError> {
        let Checked { new, action, digest, refused } = job;
        let key = new.request_id.clone().map(|id| (new.project.clone(), id));
        if let Some(request) = key.as_ref().and_then(|key| self.known.requests.get(key)) {
            return self.again(request, digest);
        }
        if let Some(error) = refused.clone().or_else(|| self.known.missing(&new.spec, work)) {
            return Err(error);
        }
        self.known.queues.enter(&new.project, 1)?;
        let row = add(new, action.as_ref(), None, work);
        if let Some(key) = key {
            self.remember(key, digest, &row, work);
        }
        Ok(Submitted { job: view::job(row), existing: false })
    }

    fn remember(&mut self, key: (String, String), digest: &[u8], row: &ViewRow, work: &mut Work) {
        let request = RequestRow {
            project: key.0.clone(),
            request_id: key.1.clone(),
            digest: digest.to_owned(),
            job: row.row.job.id,
            short_id: row.row.short_id.clone(),
        };
        work.requests.push(request.clone());
        self.known.requests.insert(key, request);
        self.known.jobs.insert(row.row.job.id, row.clone());
    }

    fn again(&self, request: &RequestRow, digest: &[u8]) -> Result<Submitted, SubmitError> {
        let (request_id, job) = (request.request_id.clone(), request.short_id.clone());
        if request.digest != digest {
            return Err(SubmitError::RequestIdReused { request_id, job });
        }
        match self.known.jobs.get(&request.job) {
            Some(row) => Ok(Submitted { job: view::job(row.clone()), existing: true }),
            None => Err(SubmitError::RequestOfRemoved { request_id, job }),
        }
    }
}

/// `batch`: that it is a part of, and whether that lets its jobs go one after the other.
pub(super) fn add(
    new: &NewJob,
    action: Option<&JobAction>,
    batch: Option<(InBatch, bool)>,
    work: &mut Work,
) -> ViewRow {
    let spec = Arc::new(new.spec.clone());
    let in_turn = batch.as_ref().is_some_and(|(_, in_turn)| *in_turn);
    let mut row = JobRow {
        job: fresh(&spec, in_turn, work.now),
        batch: batch.map(|(batch, _)| batch),
        short_id: ShortId::random(),
        project: new.project.clone(),
        name: shown_name(&spec),
        lane: spec.lane(),
        queued_at: work.now,
        created_at: work.now,
        retry_of: new.retry_of.clone(),
        action: action.cloned(),
        started_at: None,
        expires_at: None,
        revision: 0,
        submitter: new.submitter.clone(),
    };
    row.revision = work.add(NewJobRow { row: row.clone(), spec: Arc::clone(&spec) });
    work.own.extend(new.own.iter().map(|own| (row.job.id, own.clone())));
    ViewRow { row, spec, spec_bytes: 0, agent: None }
}

/// As the lifecycle begins, with all that keeps it from being queued.
fn fresh(spec: &JobSpec, in_turn: bool, now: Timestamp) -> Job {
    let start = spec.not_before.filter(|start| *start > now);
    let deadline = spec.deadlines.queue.map(|length| start.unwrap_or(now).plus(length));
    let mut job = Job::new(JobId::new(), spec.retry.clone(), deadline);
    if !spec.after.is_empty() {
        job = job.behind_others();
    }
    if let Some(start) = start {
        job = job.not_before(start);
    }
    if in_turn { job.in_turn() } else { job }
}

/// The first of what is missing: whoever submits through the API was told all of it.
fn incomplete(complete: Result<(), FieldErrors>) -> Option<SubmitError> {
    let first = complete.err()?.into_iter().next()?;
    Some(SubmitError::BadInput { field: first.path, message: first.message })
}

fn no_input(id: &str) -> String {
    format!("no uploaded input `{id}`; upload the folder again")
}

/// `registry.example/rsl/trainer:1.4` is shown as `trainer`.
fn shown_name(spec: &JobSpec) -> String {
    if let Some(name) = &spec.name {
        return name.clone();
    }
    let last = spec.image.rsplit('/').next().unwrap_or(&spec.image);
    last.split(['@', ':']).next().unwrap_or(last).to_owned()
}

/// Two requests are the same when all that the job is made of is.
fn digest(new: &NewJob, sent: Option<&[u8]>) -> Vec<u8> {
    let body = match sent {
        Some(sent) => sent.to_owned(),
        None => serde_json::to_vec(&(&new.spec, &new.retry_of)).expect("plain data with text keys"),
    };
    let mut digest = Sha256::new_with_prefix(body);
    for own in &new.own {
        digest.update(&own.name);
        digest.update(&own.mark);
    }
    digest.finalize().to_vec()
}
