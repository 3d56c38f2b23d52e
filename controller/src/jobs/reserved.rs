//! Machines that are kept for jobs that waited long. In memory only: a job that is passed over again after a restart
//! asks again. Must never decide what a machine may still take: `placement` does.

use super::{agents, types::AgentView};
use crate::{
    placement::{self, Hold, Machine},
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
/// Seats remembered. Past this all are forgotten; who is passed over asks again.
const SEATS: usize = 256;

#[derive(Debug)]
struct Seat {
    spec: Arc<JobSpec>,
    /// `None`: there is none for it now.
    agent: Option<AgentId>,
    asked: Timestamp,
}

/// Which job which machine is kept for.
#[derive(Debug, Default)]
pub(super) struct Reserved(Mutex<HashMap<JobId, Seat>>);

impl Reserved {
    /// The job this machine is kept for.
    pub(super) fn of(&self, agent: AgentId) -> Option<(JobId, Arc<JobSpec>)> {
        let seats = self.lock();
        let seat = seats.iter().find(|(_, seat)| seat.agent == Some(agent));
        seat.map(|(job, seat)| (*job, Arc::clone(&seat.spec)))
    }

    /// The job has begun, or waits no more, or its machine is none for it any more.
    pub(super) fn leave(&self, job: JobId) {
        self.lock().remove(&job);
    }

    /// Whether a machine is to be looked for: it waited long, was passed over, and has none that was looked at lately.
    pub(super) fn is_due(&self, job: JobId, now: Timestamp) -> bool {
        self.lock().get(&job).is_none_or(|seat| now.since(seat.asked) >= ASKED)
    }

    /// Keeps for the job the machine that is free for it soonest, at most half of all machines for all jobs. One that
    /// it has already stays its own: it has been emptied for it.
    pub(super) fn seek(&self, view: &ViewRow, agents: &[(AgentView, Vec<Hold>)], now: Timestamp) {
        let (job, spec) = (view.row.job.id, &view.spec);
        let online = || agents.iter().filter(|(agent, _)| agent.state == AgentState::Online);
        let mut seats = self.lock();
        if seats.len() >= SEATS {
            seats.clear();
        }
        let machine = |agent: &AgentView, holds: &[Hold]| agents::machine(agent).with(holds);
        let suits =
            |machine: &Machine| placement::explain(spec, machine).is_none_or(|reason| !reason.permanent);
        let own = seats.get(&job).and_then(|seat| seat.agent).filter(|own| {
            online().any(|(agent, holds)| agent.identity.id == *own && suits(&machine(agent, holds)))
        });
        let kept: Vec<_> =
            seats.iter().filter(|(other, _)| **other != job).filter_map(|(_, seat)| seat.agent).collect();
        let agent = own.or_else(|| {
            if kept.len() >= agents.len().div_ceil(2) {
                return None;
            }
            let free = online().filter(|(agent, _)| !kept.contains(&agent.identity.id));
            let found = free.filter_map(|(agent, holds)| {
                let machine = machine(agent, holds);
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
        seats.insert(job, Seat { spec: Arc::clone(spec), agent, asked: now });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Seat>> {
        self.0.lock().expect("nobody panics under this lock")
    }
}
