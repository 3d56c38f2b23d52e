//! Heartbeats: leases are renewed in memory; only a phase or a time that is new is written.

use super::{
    Jobs,
    agents::Process,
    command::Command,
    error::Error,
    live::{Missing, Reboot, Standing},
    types::{AgentReport, HeartbeatAnswer},
    work::Work,
};
use crate::{
    lifecycle::{Event, Loss, Phase},
    store::AgentRow,
};
use longshore_common::{
    agent::{AgentIdentity, HeldAttempt, Inventory},
    clock::Timestamp,
    ids::{AgentId, AttemptRef, JobId, SessionId},
};

impl Jobs {
    /// A link was opened.
    pub async fn hello(&self, identity: AgentIdentity, inventory: Inventory) -> Result<(), Error> {
        let process = Process { session: identity.session, boot_id: identity.boot_id.clone() };
        let row = AgentRow { identity, inventory, seen_at: Timestamp::now() };
        self.chore(super::chores::Chore::Agent(Box::new(row.clone()))).await?;
        let (shared, agent) = (&self.inner.shared, row.identity.id);
        shared.agents.hello(row);
        shared.live.greeted(agent, &process);
        shared.nudges.fleet();
        Ok(())
    }

    /// What an agent's heartbeat said of the machine. In memory only.
    pub fn agent_report(&self, agent: AgentId, report: AgentReport) {
        let shared = &self.inner.shared;
        if shared.agents.report(agent, report) {
            // It takes nothing more: it is kept for nobody.
            shared.reserved.close(|other| other == agent);
            shared.nudges.fleet();
        }
    }

    /// A link has ended; `session` keeps an old link from marking its successor.
    pub fn agent_left(&self, agent: AgentId, session: SessionId) {
        self.inner.shared.agents.left(agent, session);
        self.inner.shared.nudges.fleet();
    }

    /// The protocol that was settled with an agent's last hello.
    pub fn agent_speaks(&self, agent: AgentId, protocol: u32) {
        self.inner.shared.agents.speaks(agent, protocol);
    }

    /// The agent's process says that it ends in order.
    pub fn agent_leaves(&self, agent: AgentId, session: SessionId) {
        self.inner.shared.live.left(agent, session);
    }

    /// Whether this is the agent's process that said hello last.
    pub fn is_current(&self, agent: AgentId, session: SessionId) -> bool {
        self.inner.shared.agents.process(agent).is_some_and(|process| process.session == session)
    }

    /// Renews the listed attempts and stores phases that changed. Only what is listed is renewed.
    pub async fn heartbeat(&self, agent: AgentId, held: Vec<HeldAttempt>) -> Result<HeartbeatAnswer, Error> {
        let mut answer = HeartbeatAnswer::default();
        let mut news = Vec::new();
        let mut unknown = Vec::new();
        let process = self.inner.shared.agents.process(agent);
        let mut events =
            process.as_ref().map(|process| self.missing(agent, process, &held)).unwrap_or_default();
        let lost: Vec<_> = events.iter().filter_map(|(_, event)| event.attempt()).collect();
        let taken = self.inner.shared.live.still_there(agent, &held);
        let former = &self.inner.shared.live.former;
        let dead = process.as_ref().map(|process| former.dead(agent, process, &held)).unwrap_or_default();
        events.extend(dead.iter().map(|attempt| (attempt.job, Event::AgentDied { agent })));
        for held in held {
            match self.inner.shared.live.renew(agent, process.as_ref(), &held) {
                Standing::Held { news: is_news, stop } => {
                    answer.stops.extend(stop);
                    if is_news {
                        news.push(held);
                    }
                }
                Standing::Fatal => {
                    events.push((held.attempt.job, self.fatal(agent, held.attempt)));
                    answer.fenced.push(held.attempt);
                }
                Standing::Expired => answer.expired.push(held.attempt),
                Standing::Unknown => unknown.push(held.attempt),
            }
        }
        for attempt in unknown {
            // Its finish was taken while this heartbeat was on its way: nothing is wrong.
            let reported = self.inner.shared.store.attempt_reported(attempt).await?;
            if reported != Some(true) || taken.contains(&attempt) {
                answer.fenced.push(attempt);
            }
        }
        if !news.is_empty() {
            match self.call(Command::Phases, news.clone()).await {
                Ok(()) => news.iter().for_each(|held| self.inner.shared.live.stored(held)),
                // Leases live in memory: the answer must not wait for a disk. The news comes again.
                Err(error) if error.is_transient() => tracing::warn!(%error, "phases were not stored"),
                Err(error) => return Err(error),
            }
        }
        match self.events(events).await {
            // The next heartbeat finds them missing again.
            Err(error) if error.is_transient() => tracing::warn!(%error, "lost attempts were not stored"),
            Err(error) => return Err(error),
            Ok(_) => {
                former.told(agent, &dead);
                if let Some(process) = process {
                    self.inner.shared.live.told(&lost, &process);
                }
            }
        }
        Ok(answer)
    }

    fn fatal(&self, agent: AgentId, attempt: AttemptRef) -> Event {
        let name = self.inner.shared.agents.name(agent);
        let detail =
            format!("one process of agent {name} after the other ended soon after it had taken the job over");
        tracing::warn!(attempt.id = %attempt, agent.id = %agent, "an agent does not survive its attempt");
        Event::AgentLost(Loss { attempt, detail, died: true, jitter: rand::random_range(0.0..1.0) })
    }

    /// What follows from attempts that the agent should hold and does not.
    fn missing(&self, agent: AgentId, process: &Process, held: &[HeldAttempt]) -> Vec<(JobId, Event)> {
        let shared = &self.inner.shared;
        let name = || shared.agents.name(agent);
        let missing = shared.live.missing(agent, process, held, shared.config.grant_patience);
        let event = |missing: Missing| {
            let Missing { attempt, never_taken, died, reboot } = missing;
            tracing::warn!(attempt.id = %attempt, agent.id = %agent, never_taken, died, "an agent does not hold its attempt");
            let jitter = rand::random_range(0.0..1.0);
            let event = if let Some(reboot) = reboot {
                let detail = format!("the machine of agent {} was restarted while it had the job", name());
                match reboot {
                    Reboot::UnderIt => Event::AgentLost(Loss { attempt, detail, died: true, jitter }),
                    Reboot::InOrder => Event::HandedBack { attempt, detail },
                }
            } else if never_taken {
                let detail = format!("the grant never came to agent {}", name());
                Event::NotTaken(Loss { attempt, detail, died, jitter })
            } else {
                let why = if died { "its process was restarted" } else { "it forgot it" };
                let detail = format!("agent {} has the job no longer: {why}", name());
                Event::AgentLost(Loss { attempt, detail, died, jitter })
            };
            (attempt.job, event)
        };
        missing.into_iter().map(event).collect()
    }
}

/// A phase that comes too late changes nothing; the next heartbeat tells the agent where it stands.
pub(super) fn apply(news: &[HeldAttempt], work: &mut Work) {
    for held in news {
        if let Some(phase) = Phase::of(held.phase)
            && let Err(refusal) = work.apply(held.attempt.job, Event::Phase { attempt: held.attempt, phase })
        {
            tracing::debug!(attempt.id = %held.attempt, %refusal, "phase not taken");
            continue;
        }
        let Some(row) = work.jobs.get_mut(&held.attempt.job) else { continue };
        if row.job.check(held.attempt).is_err() || !row.job.state.is_held() {
            continue;
        }
        if held.started_at.is_some() && row.started_at != held.started_at {
            row.started_at = held.started_at;
            work.touch(held.attempt.job);
        }
        let update = work.update(held.attempt);
        update.started_at = held.started_at.or(update.started_at);
        update.exited_at = held.exited_at.or(update.exited_at);
        update.digest = held.digest.clone().or(update.digest.take());
        update.heard = true;
    }
}
