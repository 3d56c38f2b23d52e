//! A machine kept for a job that waited long: until it is free for that job, it takes only work that is over by then
//! or that leaves the job its place. More urgent work goes before it as ever.

use super::{
    Candidate,
    fit::{Reason, fit, passing},
    machine::{Hold, Load, Machine},
};
use longshore_common::{agent::Gpu, clock::Timestamp, ids::JobId, job::JobSpec};
use std::sync::Arc;

/// A job's hold on a machine that is not free for it yet.
#[derive(Clone, Debug)]
pub struct Kept {
    pub job: JobId,
    pub spec: Arc<JobSpec>,
    /// When it begins at the latest, and the machine as it is then; `None`: nothing that ends makes room for it, as
    /// it seems now.
    then: Option<(Timestamp, Machine)>,
}

impl Kept {
    pub fn new(
        (job, spec): (JobId, Arc<JobSpec>),
        machine: &Machine,
        held: (&[Hold], &[Gpu]),
        now: Timestamp,
    ) -> Self {
        let then = soonest(&spec, machine, held, now);
        Self { job, spec, then }
    }

    /// When the job begins at the latest, if that is known.
    pub fn at(&self) -> Option<Timestamp> {
        self.then.as_ref().map(|(at, _)| *at)
    }

    pub(super) fn allows(
        &self,
        candidate: &Candidate<'_>,
        gpus: &[String],
        now: Timestamp,
    ) -> Result<(), Reason> {
        let first = candidate.id == self.job || candidate.spec.priority > self.spec.priority;
        if first || self.is_over_by_then(candidate.spec, now) {
            return Ok(());
        }
        if let Some((_, later)) = &self.then {
            let mut later = later.clone();
            later.take(candidate.spec, gpus);
            if fit(&self.spec, &later).is_ok() {
                return Ok(());
            }
        }
        Err(passing("is kept for a job that waited long: only what ends before then is taken".to_owned()))
    }

    pub(super) fn take(&mut self, candidate: &Candidate<'_>, gpus: &[String], now: Timestamp) {
        let over = self.is_over_by_then(candidate.spec, now);
        if let Some((_, later)) = self.then.as_mut().filter(|_| !over) {
            later.take(candidate.spec, gpus);
        }
    }

    fn is_over_by_then(&self, spec: &JobSpec, now: Timestamp) -> bool {
        self.at().is_some_and(|at| Load::of(spec).until(now, None, None) <= at)
    }
}

/// When the machine has room for the job at the latest, if nothing new comes to it, and what it is like then. `known`:
/// all GPUs of the machine that can be granted.
pub fn soonest(
    spec: &JobSpec,
    machine: &Machine,
    (holds, known): (&[Hold], &[Gpu]),
    now: Timestamp,
) -> Option<(Timestamp, Machine)> {
    let mut later = Machine { slots: u32::MAX, ..machine.clone() };
    if fit(spec, &later).is_ok() {
        return Some((now, later));
    }
    later.free_leaving(holds, known);
    if fit(spec, &later).is_ok() {
        return Some((now, later));
    }
    let mut ends: Vec<&Hold> = holds.iter().collect();
    ends.sort_by_key(|hold| hold.until);
    let mut ends = ends.into_iter().peekable();
    while let Some(hold) = ends.next() {
        later.give(hold, known);
        // What ends at the same time is free then too.
        let is_last = ends.peek().is_none_or(|next| next.until > hold.until);
        if is_last && fit(spec, &later).is_ok() {
            return Some((hold.until.max(now), later));
        }
    }
    None
}
