//! From what happened to a job: whether its trigger may, whether it shall now, and the submit. The request's id is the
//! firing's, so a firing makes one job however often it is tried.

use super::{
    Error, FiringView, Triggers,
    make::{self, Made},
    view,
};
use crate::{
    actions,
    jobs::{JobAction, NewJob, Order, SubmitError, Submitted, Submitter},
    store::{FiringRow, FiringState, Record, TriggerRow},
};
use longshore_common::{
    clock::Timestamp,
    fields::FieldErrors,
    ids::{FiringId, JobId},
    job::JobSpec,
    trigger::{Kind, Origin, Overlap},
};
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Firings of one round.
const ROUND: u32 = 200;
/// How soon one that must wait is looked at again: an end of a job is told at once.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two tries after a quota's refusal.
const TRIES: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));
/// Firings of a clock or a webhook that wait for the former job.
const MOST_WAITING: u64 = 100;

/// What is to become of a firing.
enum Next {
    /// For this project.
    Submit(String, Box<Order>),
    End(FiringState, String),
    Later(String),
}

impl Triggers {
    /// Makes jobs of what is to be tried now. Answers when something is to be tried next.
    pub(crate) async fn fire_pending(&self) -> Result<Option<Timestamp>, Error> {
        loop {
            if self.inner.disk.check().is_err() {
                return Ok(Some(Timestamp::now().plus(PATIENCE)));
            }
            let _one = self.inner.firing.lock().await;
            let rows = self.inner.jobs.pending_firings(Timestamp::now(), ROUND).await?;
            if rows.is_empty() {
                return Ok(self.inner.jobs.next_firing().await?);
            }
            self.settle(rows).await?;
        }
    }

    /// A firing that somebody asked for, and what became of it at once.
    pub async fn fire(
        &self,
        (project, name): (&str, &str),
        payload: Value,
        by: &str,
        request: Option<&str>,
    ) -> Result<FiringView, Error> {
        let row = self.row(project, name)?;
        let id = FiringId::new();
        let event = format!("manual {}", request.map_or_else(|| id.to_string(), str::to_owned));
        let firing = new(&row, id, event, Kind::Manual, format!("asked for by {by}"), 1);
        self.note_and_fire(&row, firing, payload).await
    }

    /// Notes a firing, unless its event was noted before, and makes a job of it.
    pub(super) async fn note_and_fire(
        &self,
        row: &TriggerRow,
        firing: FiringRow,
        payload: Value,
    ) -> Result<FiringView, Error> {
        self.inner.disk.describe().map_err(Error::DiskLow)?;
        let event = firing.event.clone();
        let record = Record { firings: vec![(firing, payload.to_string())], ..Record::default() };
        self.inner.jobs.record_firings(record).await?;
        let _one = self.inner.firing.lock().await;
        let noted = self.inner.jobs.firing_of(row.id, &event).await?;
        let noted = noted
            .ok_or_else(|| Error::NotFound { project: row.project.clone(), name: row.spec.name.clone() })?;
        let waits = noted.next_try.is_some_and(|at| at > Timestamp::now());
        if noted.state != FiringState::Pending || waits {
            return Ok(view::firing(noted));
        }
        let settled = self.settle(vec![noted.clone()]).await?.pop();
        Ok(view::firing(settled.unwrap_or(noted)))
    }

    /// What became of them, written down.
    async fn settle(&self, rows: Vec<FiringRow>) -> Result<Vec<FiringRow>, Error> {
        let (mut settled, mut batch) = (Vec::with_capacity(rows.len()), Vec::new());
        let mut held = BTreeMap::new();
        for row in rows {
            if let Some(reason) = held.get(&row.trigger) {
                settled.push(later(row, String::clone(reason), PATIENCE));
                continue;
            }
            match self.next(&row).await? {
                Next::End(state, reason) => settled.push(ended(row, state, reason)),
                Next::Later(reason) => {
                    held.insert(row.trigger, reason.clone());
                    settled.push(later(row, reason, PATIENCE));
                }
                Next::Submit(project, job) if self.is_free(&row) => batch.push((row, project, job)),
                // The next one of this trigger asks whether this one's job has ended.
                Next::Submit(project, job) => {
                    let done = self.submit(vec![(row, project, job)]).await?;
                    self.inner.jobs.settle_firings(done.clone()).await?;
                    settled.extend(done);
                }
            }
        }
        settled.extend(self.submit(batch).await?);
        self.inner.jobs.settle_firings(settled.clone()).await?;
        Ok(settled)
    }

    fn is_free(&self, firing: &FiringRow) -> bool {
        self.by_id(firing.trigger).is_some_and(|row| row.spec.overlap == Overlap::Allow)
    }

    async fn next(&self, firing: &FiringRow) -> Result<Next, Error> {
        let refused = |reason: String| Ok(Next::End(FiringState::Refused, reason));
        let Some(row) = self.by_id(firing.trigger) else {
            return refused("the trigger was removed".to_owned());
        };
        let name = &row.spec.name;
        if !row.enabled && firing.kind != Kind::Manual {
            return refused(format!("the trigger is disabled; `longshore triggers enable {name}`"));
        }
        let owner = match self.owner(&row) {
            Ok(owner) => owner,
            Err(problem) => return refused(problem),
        };
        if firing.depth > row.spec.max_depth {
            let (depth, most) = (firing.depth - 1, row.spec.max_depth);
            return refused(format!(
                "{depth} triggers started one another, and max_depth is {most}: a loop is ended here"
            ));
        }
        let payload = self.payload(firing).await?;
        let (mut spec, action) = match self.made(&row, &payload).await? {
            Ok(made) => made,
            Err(problem) => return refused(problem),
        };
        spec.trigger = Some(make::origin(&row, firing));
        let mut errors = FieldErrors::new();
        self.inner.secrets.check(&row.project, &spec, &[], &mut errors);
        if !errors.is_empty() {
            return refused(errors.to_string());
        }
        if let Some(next) = self.overlap(&row, firing).await? {
            return Ok(next);
        }
        let new = NewJob {
            request_id: Some(request(firing)),
            project: row.project.clone(),
            spec,
            retry_of: None,
            own: Vec::new(),
            submitter: Some(Submitter { token: owner.id, name: owner.name }),
        };
        // Tried again, it is the same request although there may be a newer version.
        let order = match action {
            Some(action) => Order::of_action(new, action, firing.id.as_bytes().to_vec()),
            None => new.into(),
        };
        Ok(Next::Submit(row.project.clone(), Box::new(order)))
    }

    /// The spec, and the version of an action that it is a run of.
    async fn made(
        &self,
        row: &TriggerRow,
        payload: &Value,
    ) -> Result<Result<(JobSpec, Option<JobAction>), String>, Error> {
        let (invocation, said) = match make::made(row, payload) {
            Ok(Made::Job(spec)) => return Ok(Ok((*spec, None))),
            Ok(Made::Run(invocation, said)) => (invocation, said),
            Err(problem) => return Ok(Err(problem)),
        };
        match self.inner.actions.job(&row.project, &invocation, &said).await {
            Ok((spec, view)) => {
                let action = JobAction { name: view.action.name.clone(), version: view.version };
                Ok(Ok((spec, Some(action))))
            }
            Err(actions::Error::Jobs(error)) => Err(error.into()),
            Err(problem) => Ok(Err(problem.to_string())),
        }
    }

    /// `None`: no former job is in its way.
    async fn overlap(&self, row: &Arc<TriggerRow>, firing: &FiringRow) -> Result<Option<Next>, Error> {
        if row.spec.overlap == Overlap::Allow {
            return Ok(None);
        }
        let former = self.inner.jobs.unfinished_of(row.id).await?;
        let Some((_, job)) = former.first() else {
            // In the order in which they came.
            let first = self.inner.jobs.first_waiting_of(row.id).await?;
            let behind = row.spec.overlap == Overlap::Queue && first.is_some_and(|first| first != firing.id);
            return Ok(behind.then(|| Next::Later("an earlier firing of this trigger waits".to_owned())));
        };
        let reason = format!("job {job} of this trigger has not ended");
        match row.spec.overlap {
            Overlap::Allow => Ok(None),
            Overlap::Skip => Ok(Some(Next::End(FiringState::Skipped, reason))),
            Overlap::Queue => {
                let bounded = matches!(firing.kind, Kind::Cron | Kind::Webhook | Kind::Manual);
                let new = firing.reason.is_empty();
                if bounded && new && self.inner.jobs.waiting_of(row.id).await? > MOST_WAITING {
                    let reason = format!("{reason}, and {MOST_WAITING} firings wait for it");
                    return Ok(Some(Next::End(FiringState::Skipped, reason)));
                }
                Ok(Some(Next::Later(reason)))
            }
            Overlap::Replace => {
                let former: Vec<_> = former.into_iter().map(|(id, _)| id).collect();
                let by = format!("trigger {}", row.spec.name);
                self.inner.jobs.cancel(former, &by, "replaced by the next one").await?;
                Ok(None)
            }
        }
    }

    async fn submit(&self, batch: Vec<(FiringRow, String, Box<Order>)>) -> Result<Vec<FiringRow>, Error> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let mut jobs = Vec::with_capacity(batch.len());
        let mut rows = Vec::with_capacity(batch.len());
        for (row, project, job) in batch {
            jobs.push(*job);
            rows.push((row, project));
        }
        let results = self.inner.jobs.submit(jobs).await?;
        let mut settled = Vec::with_capacity(rows.len());
        for ((row, project), result) in rows.into_iter().zip(results) {
            settled.push(self.settled(row, &project, result).await?);
        }
        Ok(settled)
    }

    async fn settled(
        &self,
        row: FiringRow,
        project: &str,
        result: Result<Submitted, SubmitError>,
    ) -> Result<FiringRow, Error> {
        Ok(match result {
            Ok(Submitted { job, .. }) => fired(row, (job.id, job.short_id)),
            // Made before this process, of what the trigger was then.
            Err(SubmitError::RequestIdReused { job, .. } | SubmitError::RequestOfRemoved { job, .. }) => {
                let id = self.inner.jobs.requested(project, &request(&row)).await?;
                fired(row, (id.unwrap_or_else(JobId::new), job))
            }
            Err(error @ SubmitError::OverQuota { .. }) => {
                let waited = Timestamp::now().since(row.at);
                let patience =
                    self.by_id(row.trigger).map_or(Duration::ZERO, |trigger| trigger.spec.retry_for);
                if waited >= patience {
                    ended(row, FiringState::Refused, error.to_string())
                } else {
                    later(row, error.to_string(), (waited / 4).clamp(TRIES.0, TRIES.1))
                }
            }
            Err(SubmitError::BadInput { field, message }) => {
                ended(row, FiringState::Refused, format!("{field}: {message}"))
            }
        })
    }

    async fn payload(&self, firing: &FiringRow) -> Result<Value, Error> {
        let text = self.inner.jobs.firing_payload(firing.id).await?.unwrap_or_default();
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// What a job is told of what started it, if that is remembered.
    pub(crate) async fn file_of(&self, project: &str, origin: &Origin) -> Result<Option<String>, Error> {
        let Ok(firing) = origin.firing.parse() else { return Ok(None) };
        let Some(row) = self.inner.jobs.firing(firing).await? else { return Ok(None) };
        let payload = self.payload(&row).await?;
        Ok(Some(make::file(project, &origin.name, &row, &payload)))
    }
}

pub(super) fn new(
    row: &TriggerRow,
    id: FiringId,
    event: String,
    kind: Kind,
    cause: String,
    depth: u32,
) -> FiringRow {
    let now = Timestamp::now();
    FiringRow {
        id,
        trigger: row.id,
        event,
        kind,
        cause,
        at: now,
        depth,
        state: FiringState::Pending,
        reason: String::new(),
        next_try: Some(now),
        job: None,
    }
}

fn request(firing: &FiringRow) -> String {
    format!("trigger {}", firing.id)
}

fn fired(row: FiringRow, job: (JobId, longshore_common::ids::ShortId)) -> FiringRow {
    FiringRow { state: FiringState::Fired, reason: String::new(), next_try: None, job: Some(job), ..row }
}

fn ended(row: FiringRow, state: FiringState, reason: String) -> FiringRow {
    FiringRow { state, reason, next_try: None, ..row }
}

fn later(row: FiringRow, reason: String, wait: Duration) -> FiringRow {
    FiringRow { reason, next_try: Some(Timestamp::now().plus(wait)), ..row }
}
