//! Machines that are kept for jobs that waited long. In memory only: a job that is passed over again after a restart
//! asks again. Must never decide what a machine may still take: `placement` does.

use super::{agents, types::AgentView};
use crate::{
    placement::{self, Hold, Kept, Machine, Tenants},
    store::ViewRow,
};
use longshore_common::{
    agent::AgentState,
    clock::Timestamp,
    ids::{AgentId, JobId},
    job::JobSpec,
};
use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

/// A job's machine is looked for this often at most.
const ASKED: Duration = Duration::from_secs(1);
/// How long a machine stays kept while nothing that ends there makes room for the job: whoever is on it may leave.
const PATIENCE: Duration = Duration::from_secs(20);
/// Seats remembered. Past this all are forgotten; who is passed over asks again.
const SEATS: usize = 256;

#[derive(Debug)]
struct Seat {
    spec: Arc<JobSpec>,
    project: String,
    /// `None`: there is none for it now.
    agent: Option<AgentId>,
    asked: Timestamp,
    /// Since when nothing that ends makes room for it.
    unknown: Option<Timestamp>,
}

/// A job that a machine is kept for.
#[derive(Clone, Debug)]
pub(super) struct Seated {
    pub(super) job: JobId,
    pub(super) project: String,
    pub(super) spec: Arc<JobSpec>,
}

/// Which job which machine is kept for.
#[derive(Debug, Default)]
pub(super) struct Reserved(Mutex<HashMap<JobId, Seat>>);

impl Seated {
    /// Its hold on the machine, `free` as it is and `whole` as its agent described it; `None`: it may not begin now,
    /// or can never begin there.
    pub(super) fn hold(
        &self,
        (free, whole): (&Machine, &Machine),
        holds: &[Hold],
        tenants: &Tenants,
        now: Timestamp,
    ) -> Option<Kept> {
        let may = tenants.refuse(&self.project, &self.spec).is_none();
        if !may || !can(&self.project, &self.spec, whole) {
            return None;
        }
        let known = whole.whole.as_ref().map_or(&[][..], |whole| &whole.gpus);
        Some(Kept::new((self.job, Arc::clone(&self.spec)), free, (holds, known), now))
    }
}

/// Whether it takes jobs, and could take this one.
fn can(project: &str, spec: &JobSpec, machine: &Machine) -> bool {
    placement::may_have(project, spec, machine).is_ok()
        && machine.note.is_empty()
        && placement::explain(spec, machine).is_none_or(|reason| !reason.permanent)
}

impl Reserved {
    /// The job this machine is kept for.
    pub(super) fn of(&self, agent: AgentId) -> Option<Seated> {
        let seats = self.lock();
        let (job, seat) = seats.iter().find(|(_, seat)| seat.agent == Some(agent))?;
        Some(Seated { job: *job, project: seat.project.clone(), spec: Arc::clone(&seat.spec) })
    }

    /// The job has begun, or waits no more, or its machine is none for it any more.
    pub(super) fn leave(&self, job: JobId) {
        self.lock().remove(&job);
    }

    /// Machines that take nothing more are kept for nobody.
    pub(super) fn close(&self, is_closed: impl Fn(AgentId) -> bool) {
        self.lock().retain(|_, seat| !seat.agent.is_some_and(&is_closed));
    }

    /// Whether a machine is to be looked for: it waited long, was passed over, and has none that was looked at lately.
    pub(super) fn is_due(&self, job: JobId, now: Timestamp) -> bool {
        self.lock().get(&job).is_none_or(|seat| now.since(seat.asked) >= ASKED)
    }

    /// Whether the machine stays kept. `known`: when the job begins there.
    pub(super) fn stays(&self, job: JobId, known: bool, now: Timestamp) -> bool {
        let mut seats = self.lock();
        let Some(seat) = seats.get_mut(&job) else { return false };
        if known {
            seat.unknown = None;
            return true;
        }
        now.since(*seat.unknown.get_or_insert(now)) < PATIENCE
    }

    /// Keeps for the job the machine that is free for it soonest, at most half of those that are there for all jobs.
    /// One that it has already stays its own: it has been emptied for it.
    pub(super) fn seek(&self, view: &ViewRow, agents: &[(AgentView, Vec<Hold>)], now: Timestamp) {
        let (job, spec, project) = (view.row.job.id, &view.spec, &*view.row.project);
        let online: Vec<_> = agents.iter().filter(|(agent, _)| agent.state == AgentState::Online).collect();
        let is_online = |id: AgentId| online.iter().any(|(agent, _)| agent.identity.id == id);
        let mut seats = self.lock();
        if seats.len() >= SEATS {
            seats.clear();
        }
        let machine = |agent: &AgentView, holds: &[Hold]| agents::machine(agent).with(holds);
        let before = seats.get(&job);
        let own = before.and_then(|seat| seat.agent).filter(|own| {
            online
                .iter()
                .any(|(agent, holds)| agent.identity.id == *own && can(project, spec, &machine(agent, holds)))
        });
        let unknown = before.filter(|_| own.is_some()).and_then(|seat| seat.unknown);
        let others = seats.iter().filter(|(other, _)| **other != job);
        let kept: Vec<_> = others.filter_map(|(_, seat)| seat.agent).filter(|id| is_online(*id)).collect();
        let agent = own.or_else(|| {
            if kept.len() >= online.len().div_ceil(2) {
                return None;
            }
            let free = online.iter().filter(|(agent, _)| !kept.contains(&agent.identity.id));
            let found = free.filter_map(|(agent, holds)| {
                let machine = Some(machine(agent, holds)).filter(|one| can(project, spec, one))?;
                let known = machine.whole.as_ref().map_or_else(Vec::new, |whole| whole.gpus.clone());
                let (at, _) = placement::soonest(spec, &machine, (holds, &known), now)?;
                Some((at, Reverse(machine.free.gpus), agent.identity.id))
            });
            found.min().map(|(_, _, agent)| agent)
        });
        if own.is_none()
            && let Some(agent) = agent
        {
            tracing::info!(job.id = %job, agent.id = %agent, "a machine is kept for a job that waited long");
        }
        let project = project.to_owned();
        seats.insert(job, Seat { spec: Arc::clone(spec), project, agent, asked: now, unknown });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Seat>> {
        self.0.lock().expect("nobody panics under this lock")
    }
}
