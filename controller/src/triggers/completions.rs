//! Ends of jobs: which of them other triggers wait for. The cursor of a trigger is a revision; what ended while nobody
//! looked is found behind it.

use super::{Error, Triggers, fire};
use crate::{
    jobs::{JobFilter, JobView},
    store::{FiringRow, FiringState, Record, TriggerRow},
};
use globset::Glob;
use longshore_common::{
    clock::Timestamp,
    ids::{FiringId, TriggerId},
    job::{JobState, Outcome},
    trigger::{Completion, Kind, Overlap, When},
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc};

/// Ends of one look.
const PAGE: u32 = 500;

impl Triggers {
    /// Notes what the ends of jobs fire. `woken` is the revision up to which waiting firings have been told of ends; it
    /// is moved on. Answers whether there is more to look at.
    pub(crate) async fn look_at_ends(&self, woken: &mut u64) -> Result<bool, Error> {
        if self.inner.disk.describe().is_err() {
            // What ended stays behind the cursor.
            return Ok(false);
        }
        let _one = self.inner.changing.lock().await;
        let live = self.live();
        let watching = || live.iter().filter(|row| matches!(row.spec.when, When::Completion(_)));
        let queues = live.iter().any(|row| row.spec.overlap == Overlap::Queue);
        if !queues && watching().next().is_none() {
            *woken = self.inner.jobs.revision();
            return Ok(false);
        }
        let from = watching().map(|row| row.cursor_revision).min().unwrap_or(u64::MAX).min(*woken);
        let filter = JobFilter { states: JobState::ended().collect(), ..JobFilter::default() };
        let (ends, whole) = self.inner.jobs.changed_since(&filter, from, PAGE).await?;
        let Some(last) = ends.last().map(|job| job.revision) else { return Ok(false) };
        let (mut record, mut waiting) = (Record::default(), BTreeSet::new());
        for job in &ends {
            waiting.extend(self.queue_of(job));
            for row in watching().filter(|row| job.revision > row.cursor_revision) {
                let When::Completion(asked) = &row.spec.when else { continue };
                if is_asked_for(row, asked, job) {
                    record.firings.push(noted(row, asked, job));
                }
            }
        }
        let moved: Vec<_> = watching()
            .filter(|row| row.cursor_revision < last)
            .map(|row| TriggerRow { cursor_revision: last, ..(**row).clone() })
            .collect();
        record.cursors = moved.iter().map(|row| (row.id, row.cursor_at, last)).collect();
        record.woken = (!waiting.is_empty()).then(|| (waiting.into_iter().collect(), Timestamp::now()));
        self.inner.jobs.record_firings(record).await?;
        *woken = last.max(*woken);
        self.write().rows.extend(moved.into_iter().map(|row| (row.id, Arc::new(row))));
        self.inner.noted.notify_one();
        Ok(!whole)
    }

    /// The trigger whose waiting firings this end lets go on.
    fn queue_of(&self, job: &JobView) -> Option<TriggerId> {
        let id = job.spec.trigger.as_ref()?.trigger.parse().ok()?;
        self.by_id(id).filter(|row| row.spec.overlap == Overlap::Queue).map(|row| row.id)
    }
}

fn is_asked_for(row: &TriggerRow, asked: &Completion, job: &JobView) -> bool {
    let Some(ending) = job.ending.as_ref().filter(|_| job.project == row.project) else { return false };
    let ended = |word: &String| word == job.state.as_str() || word == ending.outcome.name();
    asked.status.iter().any(ended)
        && asked.action.as_ref().is_none_or(|action| action_of(job) == Some(action.as_str()))
        && asked.labels.iter().all(|(key, value)| job.spec.labels.get(key) == Some(value))
        // Last, for it is made anew each time.
        && asked.job.as_ref().is_none_or(|glob| {
            Glob::new(glob).is_ok_and(|glob| glob.compile_matcher().is_match(&job.name))
        })
}

/// The action that a job is of.
fn action_of(job: &JobView) -> Option<&str> {
    job.action.as_ref().map(|action| action.name.as_str())
}

fn noted(row: &TriggerRow, asked: &Completion, job: &JobView) -> (FiringRow, String) {
    let depth = job.spec.trigger.as_ref().map_or(0, |origin| origin.depth).saturating_add(1);
    let cause = format!("job {} {}", job.short_id, job.state);
    let event = format!("job {}", job.id);
    let mut firing = fire::new(row, FiringId::new(), event, Kind::Completion, cause, depth);
    let own = job.spec.trigger.as_ref().is_some_and(|origin| origin.trigger == row.id.to_string());
    if own && !asked.itself {
        firing.state = FiringState::Refused;
        firing.next_try = None;
        "this trigger started that job itself; `itself: true` allows it".clone_into(&mut firing.reason);
    }
    (firing, told(job).to_string())
}

fn told(job: &JobView) -> Value {
    let ending = job.ending.as_ref();
    json!({
        "job": job.short_id.as_str(),
        "name": job.name,
        "action": action_of(job),
        "state": job.state.as_str(),
        "outcome": ending.map(|ending| ending.outcome.name()),
        "detail": ending.map(|ending| ending.detail.as_str()),
        "exit_code": ending.and_then(|ending| match ending.outcome {
            Outcome::ExitCode(code) => Some(code),
            _ => None,
        }),
        "labels": job.spec.labels,
        "attempts": job.attempts,
        "finished_at": job.finished_at.map(Timestamp::to_rfc3339),
    })
}
