//! What time does to jobs: deadlines, ends of backoffs, leases. Called by the reconcilers, idempotent.

use super::{Jobs, chores::Chore, command::Command, error::Error, fleet};
use crate::lifecycle::{Event, Loss};
use longshore_common::{clock::Timestamp, ids::AgentId, units::HumanDuration};
use std::time::Duration;

/// Jobs looked at in one sweep; the next one follows at once if there were as many.
const PAGE: u32 = 500;

impl Jobs {
    /// Queues jobs whose backoff is over. Answers when the next one is.
    pub async fn end_backoffs(&self) -> Result<Option<Timestamp>, Error> {
        loop {
            let (due, next) = self.inner.shared.store.backoff_over(Timestamp::now(), PAGE).await?;
            let more = due.len() >= PAGE as usize;
            self.events(due.into_iter().map(|job| (job, Event::BackoffOver)).collect()).await?;
            if !more {
                return Ok(next);
            }
        }
    }

    /// Ends jobs that nobody claimed in time. Answers when the next deadline is.
    pub async fn pass_queue_deadlines(&self) -> Result<Option<Timestamp>, Error> {
        loop {
            let (due, next) = self.inner.shared.store.queue_deadlines(Timestamp::now(), PAGE).await?;
            let more = due.len() >= PAGE as usize;
            self.events(due.into_iter().map(|job| (job, Event::QueueDeadlinePassed)).collect()).await?;
            if !more {
                return Ok(next);
            }
        }
    }

    /// Takes attempts away from agents that were silent for their lease and `grace`. Answers how many.
    pub async fn expire_leases(&self, grace: Duration) -> Result<usize, Error> {
        let shared = &self.inner.shared;
        let silent = shared.live.silent(grace);
        let count = silent.len();
        let events = silent.into_iter().map(|(attempt, agent, lease)| {
            let (name, lease) = (shared.agents.name(agent), HumanDuration(lease));
            let detail = format!("agent {name} was not heard of for its lease of {lease}");
            let jitter = rand::random_range(0.0..1.0);
            (attempt.job, Event::AgentLost(Loss { attempt, detail, died: false, jitter }))
        });
        self.events(events.collect()).await?;
        Ok(count)
    }

    /// What the agent holds goes back to the queue, and it is on no list any more.
    pub async fn remove_agent(&self, agent: AgentId, author: &str) -> Result<(), Error> {
        let shared = &self.inner.shared;
        let detail = format!("agent {} was removed", shared.agents.name(agent));
        let lost = shared.live.held_by(agent).into_iter().map(|attempt| {
            let jitter = rand::random_range(0.0..1.0);
            (attempt.job, Event::AgentLost(Loss { attempt, detail: detail.clone(), died: false, jitter }))
        });
        self.events(lost.collect()).await?;
        let agent = fleet::Named { id: agent, name: shared.agents.name(agent) };
        shared.agents.forget(agent.id);
        shared.reserved.close(|one| one == agent.id);
        self.fleet(fleet::Change::Removed { agent, author: author.to_owned() }).await?;
        Ok(())
    }

    /// Stores when agents were last seen.
    pub async fn save_agents_seen(&self) -> Result<(), Error> {
        let seen = self.inner.shared.agents.take_unsaved();
        if !seen.is_empty() {
            self.chore(Chore::AgentsSeen(seen)).await?;
        }
        Ok(())
    }

    pub(super) async fn events(
        &self,
        events: Vec<(longshore_common::ids::JobId, Event)>,
    ) -> Result<(), Error> {
        if !events.is_empty() {
            // A refusal says that the job moved on meanwhile.
            self.call(Command::Events, events).await?;
        }
        Ok(())
    }
}
