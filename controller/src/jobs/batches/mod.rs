//! Jobs that were made together: counted, cancelled and tried again together. Whose turn it is in one is `turns`'.

mod make;

pub use make::{BatchError, LARGEST_BATCH, MadeBatch, NewBatch, Room};
pub(super) use make::{CheckedBatch, make};

use super::{
    Jobs,
    command::Command,
    error::Error,
    token,
    types::{Change, NewJob, Order, Page, Submitter},
};
use crate::{
    lifecycle::Event,
    store::{BatchRow, StateCount},
};
use longshore_common::{
    clock::Timestamp,
    ids::{JobId, ShortId},
    job::JobState,
};
use std::collections::HashSet;

/// Specs read at once, each of up to a mebibyte.
const READ: usize = 50;

/// A batch as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchView {
    pub id: ShortId,
    pub project: String,
    pub name: String,
    pub max_parallel: Option<u32>,
    pub total: u32,
    pub counts: BatchCounts,
    pub created_at: Timestamp,
    /// When the last of its jobs ended; `None`: some have not.
    pub finished_at: Option<Timestamp>,
    pub submitter: Option<String>,
    pub retry_of: Option<ShortId>,
}

/// How its jobs are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchCounts {
    pub waiting: u32,
    pub queued: u32,
    /// Claimed, preparing, running or collecting.
    pub running: u32,
    pub succeeded: u32,
    pub failed: u32,
    pub timed_out: u32,
    pub cancelled: u32,
    pub removed: u32,
}

/// Which batches to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchFilter {
    pub project: Option<String>,
    pub unfinished: bool,
}

impl BatchCounts {
    fn of(total: u32, states: &[StateCount]) -> Self {
        let mut counts = Self::default();
        let mut there = 0;
        for (state, count, _) in states {
            there += count;
            *match state {
                JobState::Waiting => &mut counts.waiting,
                JobState::Queued => &mut counts.queued,
                JobState::Claimed | JobState::Preparing | JobState::Running | JobState::Collecting => {
                    &mut counts.running
                }
                JobState::Succeeded => &mut counts.succeeded,
                JobState::Failed => &mut counts.failed,
                JobState::TimedOut => &mut counts.timed_out,
                JobState::Cancelled => &mut counts.cancelled,
            } += count;
        }
        Self { removed: total.saturating_sub(there), ..counts }
    }

    pub const fn unfinished(&self) -> u32 {
        self.waiting + self.queued + self.running
    }
}

impl Jobs {
    /// All of its jobs, or none and why.
    pub async fn make_batch(&self, batch: NewBatch) -> Result<Result<MadeBatch, BatchError>, Error> {
        let NewBatch { request, project, name, max_parallel, retry_of, submitter, jobs } = batch;
        let (mut checked, mut rows) = (Vec::with_capacity(jobs.len()), Vec::with_capacity(jobs.len()));
        for (row, order) in jobs {
            checked.push(self.check(order).await?);
            rows.push(row);
        }
        let batch =
            CheckedBatch { request, project, name, max_parallel, retry_of, submitter, jobs: checked, rows };
        self.call(Command::Batch, batch).await
    }

    /// Whether this request has made a batch.
    pub async fn batch_requested(&self, project: &str, request: &str) -> Result<bool, Error> {
        Ok(self.inner.shared.store.batch_requested(project, request).await?)
    }

    /// The id of a batch, a name, which means the newest batch of that name, or a unique beginning of an id. With a
    /// project, those of others are not there.
    pub async fn resolve_batch(&self, text: &str, project: Option<&str>) -> Result<ShortId, Error> {
        let store = &self.inner.shared.store;
        let begins = match ShortId::is_prefix(text) {
            true => store.batches_by_id(text, project).await?,
            false => Vec::new(),
        };
        if let Some(whole) = begins.iter().find(|id| id.as_str() == text) {
            return Ok(whole.clone());
        }
        if let Some(named) = store.batch_by_name(text, project).await? {
            return Ok(named);
        }
        match &begins[..] {
            [] => Err(no_batch(text)),
            [id] => Ok(id.clone()),
            _ => Err(Error::Invalid(format!("`{text}` begins the ids of several batches; write more of it"))),
        }
    }

    pub async fn batch(&self, id: &ShortId) -> Result<BatchView, Error> {
        let row = self.inner.shared.store.batch(id).await?.ok_or_else(|| no_batch(id.as_str()))?;
        self.batch_views(vec![row]).await?.pop().ok_or_else(|| no_batch(id.as_str()))
    }

    /// Newest first.
    pub async fn batches(
        &self,
        filter: &BatchFilter,
        size: u32,
        token: &str,
    ) -> Result<Page<BatchView>, Error> {
        let shared = &self.inner.shared;
        let list = format!("batches {filter:?}");
        let before = match token::open(&shared.token_key, &list, token)? {
            Some(bytes) => Some(serde_json::from_slice(&bytes).map_err(|_| Error::PageToken)?),
            None => None,
        };
        let of = (filter.project.as_deref(), filter.unfinished);
        let rows = shared.store.batches(of, before.as_ref(), size).await?;
        let next = rows.last().filter(|_| rows.len() >= size as usize).map(|last| {
            let place = serde_json::to_vec(&(last.created_at, &last.id)).expect("plain data");
            token::seal(&shared.token_key, &list, &place)
        });
        Ok(Page { items: self.batch_views(rows).await?, next })
    }

    /// Whether one of its jobs is among these.
    pub async fn watch_batch(
        &self,
        id: &ShortId,
    ) -> Result<impl Fn(&[Change]) -> bool + Send + use<>, Error> {
        let jobs = self.inner.shared.store.jobs_of_batch(id, &[]).await?;
        let jobs: HashSet<JobId> = jobs.into_iter().collect();
        Ok(move |changes: &[Change]| changes.iter().any(|change| jobs.contains(&change.job)))
    }

    /// Asks for the end of all its jobs in one commit: none of them is let go by the end of another.
    pub async fn cancel_batch(&self, id: &ShortId, by: &str, reason: &str) -> Result<BatchView, Error> {
        let open: Vec<_> = JobState::ALL.into_iter().filter(|state| !state.is_terminal()).collect();
        let jobs = self.inner.shared.store.jobs_of_batch(id, &open).await?;
        let event = Event::CancelRequested { by: by.to_owned(), reason: reason.to_owned() };
        self.events(jobs.into_iter().map(|job| (job, event.clone())).collect()).await?;
        self.batch(id).await
    }

    /// A new batch of its jobs that failed or ran out of time; of the cancelled ones too if that is asked. `asked` is
    /// how the batch was called: what a name means is another batch after the first try.
    pub async fn batch_again(
        &self,
        (id, asked): (&ShortId, &str),
        cancelled: bool,
        request: Option<String>,
        submitter: Option<Submitter>,
    ) -> Result<NewBatch, Error> {
        let old = self.batch(id).await?;
        let made = match &request {
            Some(request) => self.batch_requested(&old.project, request).await?,
            None => false,
        };
        let jobs =
            if made { Vec::new() } else { self.unsuccessful(id, cancelled, submitter.as_ref()).await? };
        if jobs.is_empty() && !made {
            let what = if cancelled { "has failed or was cancelled" } else { "has failed" };
            return Err(Error::NothingToRetry { batch: id.clone(), what });
        }
        let request =
            request.map(|request| (request, format!("retry of {asked}, cancelled: {cancelled}").into()));
        let (project, name, retry_of) = (old.project, old.name, Some(id.clone()));
        Ok(NewBatch { request, project, name, max_parallel: old.max_parallel, retry_of, submitter, jobs })
    }

    async fn unsuccessful(
        &self,
        id: &ShortId,
        cancelled: bool,
        submitter: Option<&Submitter>,
    ) -> Result<Vec<(u32, Order)>, Error> {
        let mut states = vec![JobState::Failed, JobState::TimedOut];
        states.extend(cancelled.then_some(JobState::Cancelled));
        let store = &self.inner.shared.store;
        let (mut jobs, mut room) = (Vec::new(), Room::default());
        for ids in store.jobs_of_batch(id, &states).await?.chunks(READ) {
            for view in self.get_many(ids).await? {
                let mut spec = (*view.spec).clone();
                // Who asks for it again has seen how they ended.
                spec.after.clear();
                spec.not_before = None;
                let new = NewJob {
                    request_id: None,
                    project: view.project,
                    spec,
                    retry_of: Some(view.short_id),
                    own: self.job_secrets(view.id).await?,
                    submitter: submitter.cloned(),
                };
                let row = view.batch.map_or(0, |batch| batch.row);
                let order = Order::again(new, view.action);
                if !room.takes(&order) {
                    let most = LARGEST_BATCH >> 20;
                    return Err(Error::Invalid(format!(
                        "the jobs to retry are more than {most} MiB together; retry them by themselves"
                    )));
                }
                jobs.push((row, order));
            }
        }
        jobs.sort_by_key(|(row, _)| *row);
        Ok(jobs)
    }

    async fn batch_views(&self, rows: Vec<BatchRow>) -> Result<Vec<BatchView>, Error> {
        let counts = self.inner.shared.store.batch_counts(rows.iter().map(|row| &row.id)).await?;
        let one = |row: BatchRow| {
            let states = counts.get(&row.id).map_or(&[][..], Vec::as_slice);
            let totals = BatchCounts::of(row.total, states);
            let ended = states.iter().filter_map(|(_, _, at)| *at).max();
            BatchView {
                id: row.id,
                project: row.project,
                name: row.name,
                max_parallel: row.max_parallel,
                total: row.total,
                counts: totals,
                created_at: row.created_at,
                finished_at: ended.filter(|_| totals.unfinished() == 0),
                submitter: row.submitter,
                retry_of: row.retry_of,
            }
        };
        Ok(rows.into_iter().map(one).collect())
    }
}

fn no_batch(text: &str) -> Error {
    Error::NotFound { kind: "batch", name: format!("{text}; `longshore batches ls -a` lists all") }
}
