//! Changes of jobs, as they are committed: `Wait` for one, `Watch` for many.

use super::{Context, jobs, status, views};
use crate::identity::Caller;
use crate::jobs::{Changes, JobFilter};
use futures::{Stream, StreamExt as _, stream};
use longshore_common::wire;
use longshore_proto::v1;
use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::Instant,
};
use tonic::Status;

pub(super) type Jobs = Pin<Box<dyn Stream<Item = Result<v1::WatchJobsResponse, Status>> + Send>>;

/// Jobs read at a time.
const PAGE: u32 = 500;
/// Changes that follow each other faster are read together; one that comes alone is told at once.
const PACE: Duration = Duration::from_millis(20);
const DEFAULT_WAIT: Duration = Duration::from_secs(30);
const LONGEST_WAIT: Duration = Duration::from_secs(600);

pub(super) async fn wait(
    context: &Context,
    caller: &Caller,
    request: v1::WaitJobRequest,
) -> Result<v1::WaitJobResponse, Status> {
    let timeout = match &request.timeout {
        Some(timeout) => wire::duration_from("timeout", timeout).map_err(status::invalid)?.min(LONGEST_WAIT),
        None => DEFAULT_WAIT,
    };
    let deadline = Instant::now() + timeout;
    let id = jobs::resolve(context, caller, &request.job).await?;
    let mut waiter = context.waiters.subscribe(id);
    loop {
        let job = context.jobs.get(id).await.map_err(status::jobs)?;
        let finished = job.state.is_terminal();
        let changed = request.after_revision != 0 && job.revision > request.after_revision;
        if finished || changed || Instant::now() >= deadline {
            return Ok(v1::WaitJobResponse { job: Some(views::job(&job)), finished });
        }
        tokio::select! {
            () = waiter.changed() => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = context.shutdown.triggered() => return Err(status::leaving()),
        }
    }
}

pub(super) fn watch(
    context: &Arc<Context>,
    caller: &Caller,
    request: v1::WatchJobsRequest,
) -> Result<Jobs, Status> {
    let filter = jobs::filter(caller, request.filter)?;
    let changes = context.jobs.nudges().changes();
    let revision = match request.from_revision {
        0 => context.jobs.revision(),
        from => from,
    };
    let watcher = Watcher {
        context: Arc::clone(context),
        filter,
        revision,
        changes,
        ready: VecDeque::new(),
        read_at: Instant::now(),
    };
    let messages = stream::try_unfold(watcher, |mut watcher| async move {
        let message = watcher.next().await?;
        Ok::<_, Status>(Some((message, watcher)))
    });
    Ok(messages.boxed())
}

struct Watcher {
    context: Arc<Context>,
    filter: JobFilter,
    /// Everything up to here was told.
    revision: u64,
    changes: Receiver<Changes>,
    ready: VecDeque<v1::WatchJobsResponse>,
    read_at: Instant,
}

impl Watcher {
    async fn next(&mut self) -> Result<v1::WatchJobsResponse, Status> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Ok(message);
            }
            if !self.fill().await? {
                self.change().await?;
            }
        }
    }

    /// Reads what changed; false if nothing did.
    async fn fill(&mut self) -> Result<bool, Status> {
        let head = self.context.jobs.revision();
        if head <= self.revision {
            return Ok(false);
        }
        let jobs = self.context.jobs.changed_since(&self.filter, self.revision, PAGE).await;
        let (jobs, whole) = jobs.map_err(status::jobs)?;
        self.revision = match jobs.last() {
            Some(job) if whole => job.revision.max(head),
            Some(job) => job.revision,
            None => head,
        };
        let message = |job: &crate::jobs::JobView| v1::WatchJobsResponse {
            job: Some(views::job(job)),
            revision: job.revision,
        };
        self.ready = jobs.iter().map(message).collect();
        Ok(!self.ready.is_empty())
    }

    async fn change(&mut self) -> Result<(), Status> {
        tokio::select! {
            received = self.changes.recv() => match received {
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Err(status::leaving()),
            },
            () = self.context.shutdown.triggered() => return Err(status::leaving()),
        }
        tokio::time::sleep_until(self.read_at + PACE).await;
        self.read_at = Instant::now();
        // What came meanwhile is read with the same query.
        self.changes = self.changes.resubscribe();
        Ok(())
    }
}
