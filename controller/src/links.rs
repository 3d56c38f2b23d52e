//! Which agents are linked to this controller, and the way down to each. Lost commands are harmless: the answer to
//! every heartbeat repeats them.

use crate::jobs::{Jobs, Stop};
use longshore_common::{
    ids::{AgentId, AttemptRef, ExecId, SessionId},
    shutdown::Shutdown,
    tasks,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{broadcast::error::RecvError, mpsc};

/// Stops waiting for one agent's link; more are repeated by the next heartbeat.
const WAITING: usize = 256;

/// Clones are the same set.
#[derive(Clone, Debug, Default)]
pub struct Links(Arc<Mutex<HashMap<AgentId, Entry>>>);

#[derive(Debug)]
struct Entry {
    session: SessionId,
    stops: mpsc::Sender<Stop>,
    resets: mpsc::Sender<String>,
    execs: mpsc::Sender<(ExecId, AttemptRef)>,
}

/// What an agent is told.
#[derive(Clone, Debug)]
pub enum Command {
    Stop(Stop),
    /// The operator says that it is well; a UUID.
    ResetGpu(String),
    /// Somebody wants a process in this attempt's container.
    Exec(ExecId, AttemptRef),
}

/// One agent's link, as long as it is up. A newer link of the same agent ends it.
#[derive(Debug)]
pub struct Linked {
    links: Links,
    agent: AgentId,
    session: SessionId,
    /// What this link was entered with: tells it from its successor.
    own: mpsc::WeakSender<Stop>,
    stops: mpsc::Receiver<Stop>,
    resets: mpsc::Receiver<String>,
    execs: mpsc::Receiver<(ExecId, AttemptRef)>,
}

impl Links {
    /// Passes on what commits say must stop.
    pub fn start(jobs: &Jobs, shutdown: Shutdown) -> Self {
        let links = Self::default();
        let (set, mut stops) = (links.clone(), jobs.nudges().stops());
        tasks::spawn("stops", async move {
            loop {
                tokio::select! {
                    () = shutdown.triggered() => return,
                    received = stops.recv() => match received {
                        Ok(stop) => set.pass(stop),
                        Err(RecvError::Lagged(_)) => {}
                        Err(RecvError::Closed) => return,
                    },
                }
            }
        });
        links
    }

    /// Enters a link, in place of an older one of the same agent.
    pub fn enter(&self, agent: AgentId, session: SessionId) -> Linked {
        let (sender, stops) = mpsc::channel(WAITING);
        let own = sender.downgrade();
        let (reset, resets) = mpsc::channel(WAITING);
        let (exec, execs) = mpsc::channel(WAITING);
        self.lock().insert(agent, Entry { session, stops: sender, resets: reset, execs: exec });
        Linked { links: self.clone(), agent, session, own, stops, resets, execs }
    }

    /// Whether this run of the agent is linked here.
    pub fn has(&self, agent: AgentId, session: SessionId) -> bool {
        self.lock().get(&agent).is_some_and(|entry| entry.session == session)
    }

    /// The agent is told no more, and its link ends.
    pub fn end(&self, agent: AgentId) {
        self.lock().remove(&agent);
    }

    /// Tells the agent that one of its GPUs is well. Whether it is linked and takes it.
    pub fn reset_gpu(&self, agent: AgentId, uuid: String) -> bool {
        self.lock().get(&agent).is_some_and(|entry| entry.resets.try_send(uuid).is_ok())
    }

    /// Tells the agent that somebody wants a process in this attempt's container. Whether it is linked and takes it.
    pub fn exec(&self, agent: AgentId, session: ExecId, attempt: AttemptRef) -> bool {
        self.lock().get(&agent).is_some_and(|entry| entry.execs.try_send((session, attempt)).is_ok())
    }

    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn pass(&self, stop: Stop) {
        if let Some(entry) = self.lock().get(&stop.agent) {
            // Full: the agent does not read, and will be told with its next heartbeat.
            drop(entry.stops.try_send(stop));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AgentId, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Linked {
    pub const fn agent(&self) -> AgentId {
        self.agent
    }

    pub const fn session(&self) -> SessionId {
        self.session
    }

    /// What to tell it next; `None` when a newer link has taken this one's place. Cancel-safe.
    pub async fn command(&mut self) -> Option<Command> {
        tokio::select! {
            stop = self.stops.recv() => stop.map(Command::Stop),
            Some(gpu) = self.resets.recv() => Some(Command::ResetGpu(gpu)),
            Some((session, attempt)) = self.execs.recv() => Some(Command::Exec(session, attempt)),
        }
    }

    /// Whether no newer link of this agent has been entered.
    pub fn is_current(&self) -> bool {
        self.own.upgrade().is_some()
    }
}

impl Drop for Linked {
    fn drop(&mut self) {
        let Some(own) = self.own.upgrade() else { return };
        let mut links = self.links.lock();
        if links.get(&self.agent).is_some_and(|entry| entry.stops.same_channel(&own)) {
            links.remove(&self.agent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::{
        agent::StopReason,
        ids::{Epoch, JobId},
    };

    #[tokio::test]
    async fn a_newer_link_ends_the_older_one_and_outlives_it() {
        let links = Links::default();
        let (agent, first, second) = (AgentId::new(), SessionId::new(), SessionId::new());
        let mut old = links.enter(agent, first);
        let mut new = links.enter(agent, second);
        assert!(old.command().await.is_none() && !old.is_current());
        drop(old);
        assert!(links.has(agent, second) && !links.has(agent, first));
        let attempt = AttemptRef { job: JobId::new(), number: 1, epoch: Epoch(1) };
        links.pass(Stop { agent, attempt, reason: StopReason::Revoke });
        let told = new.command().await;
        assert!(matches!(told, Some(Command::Stop(stop)) if stop.attempt == attempt));
        assert!(links.reset_gpu(agent, "GPU-1".to_owned()));
        assert!(matches!(new.command().await, Some(Command::ResetGpu(gpu)) if gpu == "GPU-1"));
        drop(new);
        assert!(links.count() == 0 && !links.reset_gpu(agent, "GPU-1".to_owned()));
    }
}
