//! Which jobs fit which machine. The same functions decide the claim and explain the wait, so that the two can
//! never disagree. Pure: must never read a clock or a database.

mod advice;
mod fit;
mod globs;
mod gpus;
mod locality;
mod machine;
mod reserve;
mod shares;
mod tenants;
#[cfg(test)]
mod tests;

pub use advice::changes;
pub use fit::{Reason, explain, fit, may_have};
pub use locality::{Locality, Neighbour, Sight};
pub use machine::{Hold, Load, Machine, Whole};
pub use reserve::{Kept, soonest};
pub use shares::{Amounts, Shares, Usage};
pub use tenants::{Held, Tenants};

use longshore_common::{agent::Gpu, clock::Timestamp, ids::JobId, job::JobSpec};

/// A queued job.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    pub id: JobId,
    pub project: &'a str,
    pub spec: &'a JobSpec,
    pub queued_at: Timestamp,
}

/// What is left of one machine while jobs are placed on it, and what else they must keep to.
#[derive(Clone, Debug)]
pub struct Round {
    pub machine: Machine,
    pub tenants: Tenants,
    /// The machine is kept for a job that waited long.
    pub kept: Option<Kept>,
    pub locality: Locality,
    pub now: Timestamp,
}

impl Round {
    /// The GPUs the job gets, or the first reason why it is not placed here now.
    pub fn judge(&self, candidate: &Candidate<'_>) -> Result<Vec<String>, Reason> {
        if let Some(reason) = self.tenants.refuse(candidate.project, candidate.spec) {
            return Err(reason);
        }
        may_have(candidate.project, candidate.spec, &self.machine)?;
        let gpus = fit(candidate.spec, &self.machine)?;
        if let Some(kept) = &self.kept {
            kept.allows(candidate, &gpus, self.now)?;
        }
        match self.locality.refuse(candidate, self.now) {
            Some(reason) => Err(reason),
            None => Ok(gpus),
        }
    }

    /// Whether another machine is asked first, for a moment: this one is to ask again at once.
    pub fn holds_back(&self, candidate: &Candidate<'_>) -> bool {
        self.locality.holds_back(candidate, self.now)
    }

    /// When the job begins here at the latest, if nothing new comes; `None`: its project or another job's claim to the
    /// machine is in its way, or nobody can tell. `holds` and `known` as in [`soonest`].
    pub fn soonest(&self, candidate: &Candidate<'_>, held: (&[Hold], &[Gpu])) -> Option<Timestamp> {
        let others = self.kept.as_ref().is_some_and(|kept| kept.job != candidate.id);
        if others || self.tenants.refuse(candidate.project, candidate.spec).is_some() {
            return None;
        }
        soonest(candidate.spec, &self.machine, held, self.now).map(|(at, _)| at)
    }

    /// It is placed: what it got is its own.
    pub fn take(&mut self, candidate: &Candidate<'_>, gpus: &[String]) {
        self.machine.take(candidate.spec, gpus);
        self.tenants.take(candidate.project, candidate.spec);
        if let Some(kept) = &mut self.kept {
            kept.take(candidate, gpus, self.now);
        }
        self.kept.take_if(|kept| kept.job == candidate.id);
    }
}
