//! Agents that went silent for a whole lease and whose jobs others have by now. One that comes back as another
//! process, without the container, had died under the job, which is worth knowing before a third agent gets it.
//! In memory only: a new controller knows of none.

use super::agents::Process;
use longshore_common::{
    agent::HeldAttempt,
    ids::{AgentId, AttemptRef, JobId},
};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

#[derive(Debug)]
struct Silent {
    attempt: AttemptRef,
    /// That had it when it was heard of last.
    process: Process,
    /// Another process did not list it.
    absent: bool,
}

#[derive(Debug, Default)]
pub(super) struct Former {
    silent: Mutex<HashMap<AgentId, Vec<Silent>>>,
}

impl Former {
    pub(super) fn note(&self, agent: AgentId, attempt: AttemptRef, process: Process) {
        self.lock().entry(agent).or_default().push(Silent { attempt, process, absent: false });
    }

    /// What a heartbeat of `agent` shows to have died: absent twice, as a container may still be looked for, or once
    /// from a machine that was started anew.
    pub(super) fn dead(&self, agent: AgentId, process: &Process, held: &[HeldAttempt]) -> Vec<AttemptRef> {
        let mut silent = self.lock();
        let Some(of_agent) = silent.get_mut(&agent) else { return Vec::new() };
        // The process is alive, or the container is. What a machine lists that was started anew is only to be given back.
        of_agent.retain(|one| {
            let same_boot = one.process.boot_id == process.boot_id;
            let listed = held.iter().any(|held| held.attempt == one.attempt);
            one.process != *process && !(same_boot && listed)
        });
        of_agent
            .iter_mut()
            .filter_map(|one| {
                let seen = std::mem::replace(&mut one.absent, true);
                (seen || one.process.boot_id != process.boot_id).then_some(one.attempt)
            })
            .collect()
    }

    /// A process of its agent asks for it, as only one does that found it again: it may have heard of the loss, and be
    /// rid of the container, before its first heartbeat.
    pub(super) fn is_asked_for(&self, attempt: AttemptRef) {
        self.keep(|_, one| one.attempt != attempt);
    }

    /// Their deaths are in the database.
    pub(super) fn told(&self, agent: AgentId, attempts: &[AttemptRef]) {
        self.keep(|of, one| of != agent || !attempts.contains(&one.attempt));
    }

    /// Its job has ended.
    pub(super) fn forget(&self, job: JobId) {
        self.keep(|_, one| one.attempt.job != job);
    }

    fn keep(&self, keep: impl Fn(AgentId, &Silent) -> bool) {
        self.lock().retain(|agent, of_agent| {
            of_agent.retain(|one| keep(*agent, one));
            !of_agent.is_empty()
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AgentId, Vec<Silent>>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
