//! The jobs of one batch in memory: loaded with one statement, changed by `lifecycle::step` in order, written back
//! with one statement per table.

use super::{
    agents::{Agents, Process},
    fleet::Draft,
    live::{Entry, Live},
    nudges::{Nudges, Stop, Work as Lanes},
    projects::Retention,
    reserved::Reserved,
    secrets::OwnSecret,
    types::{Change, LiveAttempt},
};
use crate::{
    lifecycle::{Effect, Event, Refusal, Step, step},
    placement::Load,
    store::{
        AttemptClose, AttemptRow, AttemptUpdate, BatchRequestRow, BatchRow, Error, JobRow, NewJobRow,
        RequestRow, Source, Tx,
    },
};
use longshore_common::{
    agent::{StopReason, Usage},
    clock::Timestamp,
    ids::{AttemptRef, Epoch, JobId, ShortId},
    job::JobState,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::Duration,
};
use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Work {
    pub(super) now: Timestamp,
    pub(super) epoch: Epoch,
    pub(super) retention: Retention,
    pub(super) lease: Duration,
    /// The last one given out.
    pub(super) revision: u64,
    pub(super) jobs: HashMap<JobId, JobRow>,
    pub(super) lanes: Lanes,
    pub(super) fleet: Draft,
    pub(super) requests: Vec<RequestRow>,
    /// Secrets of new jobs.
    pub(super) own: Vec<(JobId, OwnSecret)>,
    removed: Vec<JobId>,
    gone: HashSet<String>,
    /// Jobs named as inputs by new ones, and the first of these.
    named: HashMap<String, ShortId>,
    new: Vec<NewJobRow>,
    dirty: BTreeSet<JobId>,
    opened: Vec<Opened>,
    updates: BTreeMap<(JobId, u32), AttemptUpdate>,
    stops: Vec<Stop>,
    changes: BTreeMap<JobId, Change>,
    /// Opened attempts that are saved.
    granted: Vec<Opened>,
    /// Grants that were asked for again.
    repeated: Vec<JobId>,
    /// New jobs that wait for others.
    blocked: Vec<JobId>,
    /// Batches in which it may be another job's turn.
    turns: BTreeSet<ShortId>,
    pub(super) batches: Vec<BatchRow>,
    pub(super) batch_requests: Vec<BatchRequestRow>,
}

/// A new attempt and the length of its lease.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) attempt: AttemptRow,
    pub(super) lease: Duration,
    pub(super) load: Load,
}

impl Work {
    pub(super) fn new(
        now: Timestamp,
        epoch: Epoch,
        revision: u64,
        (retention, lease): (Retention, Duration),
        fleet: Draft,
    ) -> Self {
        Self {
            now,
            epoch,
            retention,
            lease,
            revision,
            jobs: HashMap::new(),
            lanes: Lanes::default(),
            fleet,
            requests: Vec::new(),
            own: Vec::new(),
            removed: Vec::new(),
            gone: HashSet::new(),
            named: HashMap::new(),
            new: Vec::new(),
            dirty: BTreeSet::new(),
            opened: Vec::new(),
            updates: BTreeMap::new(),
            stops: Vec::new(),
            changes: BTreeMap::new(),
            granted: Vec::new(),
            repeated: Vec::new(),
            blocked: Vec::new(),
            turns: BTreeSet::new(),
            batches: Vec::new(),
            batch_requests: Vec::new(),
        }
    }

    /// Lets `event` happen to a loaded job. A job that is not there is fenced: it was removed.
    pub(super) fn apply(&mut self, id: JobId, event: Event) -> Result<(), Refusal> {
        let row = self.jobs.get_mut(&id).ok_or(Refusal::Fenced)?;
        let Step { job, effects } = step(&row.job, event, self.now)?;
        if row.job == job && effects.is_empty() {
            return Ok(());
        }
        row.job = job;
        if let Some(batch) =
            row.batch.as_ref().filter(|_| row.job.state.is_terminal() || row.job.wants_turn())
        {
            self.turns.insert(batch.id.clone());
        }
        for effect in effects {
            self.follow(id, effect);
        }
        self.touch(id);
        Ok(())
    }

    /// A new job; its row gets its revision here.
    pub(super) fn add(&mut self, mut new: NewJobRow) -> u64 {
        self.revision += 1;
        new.row.revision = self.revision;
        let job = &new.row.job;
        self.changes.insert(job.id, Change { job: job.id, revision: self.revision, state: job.state });
        if job.blocked {
            self.blocked.push(job.id);
        }
        if let Some(batch) = new.row.batch.as_ref().filter(|_| job.awaits_turn) {
            self.turns.insert(batch.id.clone());
        }
        if job.state == JobState::Queued {
            *self.lanes.queued.entry(new.row.lane.clone()).or_default() += 1;
        }
        for source in Source::all(&new.spec) {
            if let Source::Job(name) = source {
                self.named.entry(name).or_insert_with(|| new.row.short_id.clone());
            }
        }
        self.new.push(new);
        self.revision
    }

    /// Jobs that have ended in this batch.
    pub(super) fn ended(&self) -> impl Iterator<Item = JobId> {
        self.changes.values().filter(|change| change.state.is_terminal()).map(|change| change.job)
    }

    pub(super) fn take_blocked(&mut self) -> Vec<JobId> {
        std::mem::take(&mut self.blocked)
    }

    pub(super) fn take_turns(&mut self) -> BTreeSet<ShortId> {
        std::mem::take(&mut self.turns)
    }

    /// Marks a loaded job as changed.
    pub(super) fn touch(&mut self, id: JobId) {
        let Some(row) = self.jobs.get_mut(&id) else { return };
        self.revision += 1;
        row.revision = self.revision;
        self.dirty.insert(id);
        self.changes.insert(id, Change { job: id, revision: self.revision, state: row.job.state });
    }

    pub(super) fn open(&mut self, attempt: AttemptRow, lease: Duration, load: Load) {
        self.opened.push(Opened { attempt, lease, load });
    }

    /// A grant goes out for another time.
    pub(super) fn repeat(&mut self, job: JobId) {
        self.repeated.push(job);
    }

    /// The row of what happens to an attempt in this batch.
    pub(super) fn update(&mut self, attempt: AttemptRef) -> &mut AttemptUpdate {
        let state = self.jobs.get(&attempt.job).map(|row| row.job.state);
        self.updates.entry((attempt.job, attempt.number)).or_insert_with(|| AttemptUpdate {
            attempt,
            state: state.expect("only attempts of loaded jobs are updated"),
            started_at: None,
            exited_at: None,
            heard: false,
            digest: None,
            close: None,
        })
    }

    pub(super) fn remove(&mut self, id: JobId, short_id: &ShortId) {
        self.removed.push(id);
        self.gone.insert(short_id.to_string());
    }

    /// Removed in this batch.
    pub(super) fn is_gone(&self, short_id: &str) -> bool {
        self.gone.contains(short_id)
    }

    /// A job of this batch that is made of the outputs of this one.
    pub(super) fn named_by(&self, short_id: &ShortId) -> Option<&ShortId> {
        self.named.get(short_id.as_str())
    }

    fn follow(&mut self, id: JobId, effect: Effect) {
        let now = self.now;
        match effect {
            Effect::Queued => {
                if let Some(row) = self.jobs.get_mut(&id) {
                    if row.job.attempts == 0 {
                        // Its age counts from when it could begin.
                        row.queued_at = now;
                    }
                    *self.lanes.queued.entry(row.lane.clone()).or_default() += 1;
                }
            }
            // The claim knows the GPUs and opens it.
            Effect::AttemptOpened { .. } => {}
            Effect::AttemptMoved { attempt, phase } => self.update(attempt).state = phase,
            Effect::AttemptClosed { attempt, ending, reported } => {
                let update = self.update(attempt);
                update.state = ending.outcome.state();
                update.close = Some(AttemptClose {
                    ending,
                    finished_at: now,
                    reported,
                    log_end: 0,
                    artifact_count: 0,
                    artifact_bytes: 0,
                    usage: Usage::default(),
                    notes: Vec::new(),
                });
            }
            Effect::Stop { agent, attempt, reason } => {
                self.stops.push(Stop { agent, attempt, reason: StopReason::Cancel(reason) });
            }
            Effect::Ended => {
                if let Some(row) = self.jobs.get_mut(&id) {
                    row.expires_at = Some(now.plus(self.retention.of(&row.project)));
                }
            }
        }
    }

    /// Writes what has gathered. May be called more than once in a batch.
    pub(super) async fn save(&mut self, tx: &mut Tx) -> Result<(), Error> {
        for batch in self.batches.drain(..) {
            tx.insert_batch(&batch).await?;
        }
        for request in self.batch_requests.drain(..) {
            tx.insert_batch_request(&request, self.now).await?;
        }
        tx.insert_jobs(&self.new).await?;
        self.new.clear();
        tx.insert_requests(&self.requests, self.now).await?;
        self.requests.clear();
        tx.put_job_secrets(&self.own).await?;
        self.own.clear();
        let dirty: Vec<_> =
            std::mem::take(&mut self.dirty).iter().filter_map(|id| self.jobs.get(id)).collect();
        tx.update_jobs(dirty.into_iter()).await?;
        tx.insert_attempts(self.opened.iter().map(|opened| &opened.attempt)).await?;
        self.granted.append(&mut self.opened);
        tx.update_attempts(std::mem::take(&mut self.updates).values()).await
    }

    /// The last writes of the batch.
    pub(super) async fn finish(&mut self, tx: &mut Tx, before: u64) -> Result<(), Error> {
        self.save(tx).await?;
        tx.remove_jobs(&self.removed).await?;
        if self.revision != before {
            tx.set_revision(self.revision).await?;
        }
        Ok(())
    }

    /// After the commit: memory follows, and whoever waits is told.
    pub(super) fn publish(self, (live, agents, reserved): (&Live, &Agents, &Reserved), nudges: &Nudges) {
        for Opened { attempt, lease, load } in self.granted {
            if let Some(row) = self.jobs.get(&attempt.attempt.job) {
                live.put(entry(row, &attempt, (lease, load), agents.process(attempt.agent)));
            }
        }
        for job in self.repeated {
            live.granted_again(job);
        }
        for id in self.changes.keys() {
            let Some(row) = self.jobs.get(id) else { continue };
            if row.job.state.is_terminal() {
                live.former.forget(*id);
            }
            if row.job.state != JobState::Queued {
                reserved.leave(*id);
            }
            match row.job.latest {
                Some(latest) if !latest.reported && !row.job.state.is_terminal() => {
                    live.update(*id, |entry| {
                        entry.state = row.job.state;
                        entry.started_at = row.started_at;
                        entry.stop = row.job.desired.is_cancel().then(|| row.job.desired.sentence());
                    })
                }
                Some(_) | None => live.remove(*id),
            }
        }
        if !self.removed.is_empty() {
            nudges.removed();
        }
        let mut changes: Vec<_> = self.changes.into_values().collect();
        changes.sort_unstable_by_key(|change| change.revision);
        nudges.send(changes, self.lanes, self.stops);
    }
}

/// A fresh lease on a granted attempt.
pub(super) fn entry(
    row: &JobRow,
    attempt: &AttemptRow,
    (lease, load): (Duration, Load),
    process: Option<Process>,
) -> Entry {
    let now = Instant::now();
    Entry {
        live: LiveAttempt {
            attempt: attempt.attempt,
            agent: attempt.agent,
            short_id: row.short_id.clone(),
            project: row.project.clone(),
            nonce: attempt.nonce.clone(),
        },
        gpus: attempt.gpus.iter().map(|gpu| gpu.uuid.clone()).collect(),
        load,
        claimed_at: attempt.claimed_at,
        state: row.job.state,
        started_at: attempt.started_at,
        exited_at: attempt.exited_at,
        stop: row.job.desired.is_cancel().then(|| row.job.desired.sentence()),
        hand_back: None,
        lease,
        until: now + lease,
        unheard: attempt.unheard,
        silent: !row.job.state.is_held(),
        process,
        since: now,
        falls: 0,
        left: false,
        granted: now,
        // No agent is past it before it spoke for the attempt.
        listed: row.job.state != JobState::Claimed,
        absent: false,
        reboot: None,
        opened: attempt.opened,
        has_digest: attempt.digest.is_some(),
    }
}
