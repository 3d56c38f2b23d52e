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
/// Firings of a clock or a webhook that wait for the former job, or for somebody to mend what refuses them.
const MOST_WAITING: u64 = 100;

/// What is to become of a firing.
enum Next {
    Submit(Box<Ready>),
    End(FiringState, String),
    /// Behind others of its trigger.
    Wait(String),
    /// Somebody can mend it: tried again for as long as the trigger says.
    Refuse(String),
}

/// A job to be made.
struct Ready {
    firing: FiringRow,
    project: String,
    order: Order,
    /// Those that it takes the place of.
    former: Vec<JobId>,
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
        let text = payload.to_string();
        let fired = self.note_and_fire(&row, firing, payload).await?;
        if fired.id != id
            && self.inner.jobs.firing_payload(fired.id).await?.is_some_and(|known| known != text)
        {
            return Err(Error::RequestReused(request.unwrap_or_default().to_owned()));
        }
        Ok(fired)
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
    pub(super) async fn settle(&self, rows: Vec<FiringRow>) -> Result<Vec<FiringRow>, Error> {
        let (mut settled, mut batch) = (Vec::with_capacity(rows.len()), Vec::new());
        let mut held = BTreeMap::<_, String>::new();
        for row in rows {
            let next = match held.get(&row.trigger) {
                Some(reason) => self.wait(&row, reason.clone()).await?,
                None => self.next(&row).await?,
            };
            match next {
                Next::End(state, reason) => settled.push(ended(row, state, reason)),
                Next::Refuse(reason) => settled.push(self.refused(row, reason).await?),
                Next::Wait(reason) => {
                    held.insert(row.trigger, reason.clone());
                    settled.push(later(row, reason, PATIENCE));
                }
                Next::Submit(ready) if self.is_free(&row) => batch.push(*ready),
                // The next one of this trigger asks whether this one's job has ended.
                Next::Submit(ready) => {
                    let done = self.submit(vec![*ready]).await?;
                    self.inner.jobs.settle_firings(done.clone()).await?;
                    settled.extend(done);
                }
            }
        }
        settled.extend(self.submit(batch).await?);
        self.inner.jobs.settle_firings(settled.clone()).await?;
        Ok(settled)
    }

    /// Tried again, or given up when that has been done for as long as the trigger says.
    async fn refused(&self, row: FiringRow, reason: String) -> Result<FiringRow, Error> {
        let waited = Timestamp::now().since(row.at);
        let patience = self.by_id(row.trigger).map_or(Duration::ZERO, |trigger| trigger.spec.retry_for);
        if waited >= patience {
            return Ok(ended(row, FiringState::Refused, reason));
        }
        if self.is_too_much(&row).await? {
            let reason = format!("{reason}; {MOST_WAITING} firings of this trigger wait already");
            return Ok(ended(row, FiringState::Refused, reason));
        }
        Ok(later(row, reason, (waited / 4).clamp(TRIES.0, TRIES.1)))
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
            Err(problem) => return Ok(Next::Refuse(problem)),
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
            Err(next) => return Ok(next),
        };
        spec.trigger = Some(make::origin(&row, firing));
        let mut errors = FieldErrors::new();
        self.inner.secrets.check(&row.project, &spec, &[], &mut errors);
        if !errors.is_empty() {
            return refused(errors.to_string());
        }
        let former = match self.overlap(&row, firing).await? {
            Ok(former) => former,
            Err(next) => return Ok(next),
        };
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
        let project = row.project.clone();
        Ok(Next::Submit(Box::new(Ready { firing: firing.clone(), project, order, former })))
    }

    /// The spec, and the version of an action that it is a run of.
    async fn made(
        &self,
        row: &TriggerRow,
        payload: &Value,
    ) -> Result<Result<(JobSpec, Option<JobAction>), Next>, Error> {
        let (invocation, said) = match make::made(row, payload) {
            Ok(Made::Job(spec)) => return Ok(Ok((*spec, None))),
            Ok(Made::Run(invocation, said)) => (invocation, said),
            Err(problem) => return Ok(Err(Next::End(FiringState::Refused, problem))),
        };
        match self.inner.actions.job(&row.project, &invocation, &said).await {
            Ok((spec, view)) => {
                let action = JobAction { name: view.action.name.clone(), version: view.version };
                Ok(Ok((spec, Some(action))))
            }
            Err(actions::Error::Jobs(error)) => Err(error.into()),
            Err(problem @ actions::Error::Archived { .. }) => Ok(Err(Next::Refuse(problem.to_string()))),
            Err(problem) => Ok(Err(Next::End(FiringState::Refused, problem.to_string()))),
        }
    }

    /// The former jobs that it takes the place of, or what is in its way.
    async fn overlap(
        &self,
        row: &Arc<TriggerRow>,
        firing: &FiringRow,
    ) -> Result<Result<Vec<JobId>, Next>, Error> {
        if row.spec.overlap == Overlap::Allow {
            return Ok(Ok(Vec::new()));
        }
        let former = self.inner.jobs.unfinished_of(row.id).await?;
        let Some((_, job)) = former.first() else {
            // In the order in which they came.
            let first = self.inner.jobs.first_waiting_of(row.id).await?;
            let behind = row.spec.overlap == Overlap::Queue && first.is_some_and(|first| first != firing.id);
            let reason = || "an earlier firing of this trigger waits".to_owned();
            return Ok(if behind { Err(Next::Wait(reason())) } else { Ok(Vec::new()) });
        };
        let reason = format!("job {job} of this trigger has not ended");
        match row.spec.overlap {
            Overlap::Skip => Ok(Err(Next::End(FiringState::Skipped, reason))),
            Overlap::Queue => Ok(Err(self.wait(firing, reason).await?)),
            Overlap::Allow | Overlap::Replace => Ok(Ok(former.into_iter().map(|(id, _)| id).collect())),
        }
    }

    async fn wait(&self, firing: &FiringRow, reason: String) -> Result<Next, Error> {
        if self.is_too_much(firing).await? {
            let reason = format!("{reason}, and {MOST_WAITING} firings wait for it");
            return Ok(Next::End(FiringState::Skipped, reason));
        }
        Ok(Next::Wait(reason))
    }

    /// What waits is bounded, where it could grow for ever.
    async fn is_too_much(&self, firing: &FiringRow) -> Result<bool, Error> {
        let bounded = matches!(firing.kind, Kind::Cron | Kind::Webhook | Kind::Manual);
        let new = firing.reason.is_empty();
        Ok(bounded && new && self.inner.jobs.waiting_of(firing.trigger).await? > MOST_WAITING)
    }

    async fn submit(&self, batch: Vec<Ready>) -> Result<Vec<FiringRow>, Error> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let mut orders = Vec::with_capacity(batch.len());
        let mut rest = Vec::with_capacity(batch.len());
        for Ready { firing, project, order, former } in batch {
            orders.push(order);
            rest.push((firing, project, former));
        }
        let results = self.inner.jobs.submit(orders).await?;
        let mut settled = Vec::with_capacity(rest.len());
        for ((firing, project, former), result) in rest.into_iter().zip(results) {
            let settles = self.settled(firing, &project, result).await?;
            if settles.state == FiringState::Fired && !former.is_empty() {
                // Only now that there is one in their place.
                let name = self.by_id(settles.trigger).map(|row| row.spec.name.clone()).unwrap_or_default();
                let by = format!("trigger {name}");
                self.inner.jobs.cancel(former, &by, "replaced by the next one").await?;
            }
            settled.push(settles);
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
            Err(error @ SubmitError::OverQuota { .. }) => self.refused(row, error.to_string()).await?,
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
    FiringRow { state: FiringState::Pending, reason, next_try: Some(Timestamp::now().plus(wait)), ..row }
}
