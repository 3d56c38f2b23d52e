//! Why a job waits, by the same function as the claim's. Changes nothing.

use super::{
    Jobs, agents,
    error::Error,
    types::{AgentReason, Explanation},
};
use crate::{lifecycle::Ending, placement, store::ViewRow};
use longshore_common::{
    ids::JobId,
    job::{JobState, Outcome},
};

/// A place in the queue is counted up to this.
const PLACES: u32 = 10_000;

impl Jobs {
    /// For every agent the first reason why not. None once an agent has it or it has ended, but for one that ended
    /// because no agent took it.
    pub async fn explain(&self, job: JobId) -> Result<Explanation, Error> {
        self.why(&self.row(job).await?).await
    }

    pub(super) async fn why(&self, row: &ViewRow) -> Result<Explanation, Error> {
        let state = row.row.job.state;
        let room = match (state, &row.row.job.ending) {
            (JobState::Waiting | JobState::Queued, _) => "has room; it takes the job with its next claim",
            (_, Some(Ending { outcome: Outcome::QueueTimeout, .. })) => "has room now",
            _ => return Ok(Explanation { place: 0, summary: summary(row, 0, &[]), agents: Vec::new() }),
        };
        let mut reasons = Vec::new();
        for agent in self.agents() {
            let reason = placement::explain(&row.spec, &agents::machine(&agent));
            let (reason, permanent) =
                reason.map_or_else(|| (room.to_owned(), false), |reason| (reason.text, reason.permanent));
            reasons.push(AgentReason { agent: agent.identity.name, reason, permanent });
        }
        let place =
            if state == JobState::Queued { self.inner.shared.store.place(row, PLACES).await? + 1 } else { 0 };
        Ok(Explanation { place, summary: summary(row, place, &reasons), agents: reasons })
    }
}

fn summary(row: &ViewRow, place: u32, agents: &[AgentReason]) -> String {
    let job = &row.row.job;
    if let Some(Ending { outcome, detail }) = &job.ending {
        let detail = if detail.is_empty() { outcome.row().sentence } else { detail };
        return format!("has ended: {outcome}: {detail}");
    }
    if job.state == JobState::Waiting {
        return format!("waits before it is tried again; {} attempts so far", job.attempts);
    }
    if place == 0 {
        let agent = row.agent.as_deref().map(|name| format!(" on {name}")).unwrap_or_default();
        return format!("is {}{agent}, not in a queue", job.state);
    }
    let line = match place {
        1 => "next in line".to_owned(),
        _ => format!("number {place} in line"),
    };
    let hope = agents.iter().find(|agent| !agent.permanent);
    match (agents, hope) {
        ([], _) => format!("{line}; no agent has ever joined"),
        (_, Some(agent)) => format!("{line}; {}: {}", agent.agent, agent.reason),
        ([only], None) => format!("no agent can ever take it; {}: {}", only.agent, only.reason),
        ([first, ..], None) => {
            format!("none of {} agents can ever take it; {}: {}", agents.len(), first.agent, first.reason)
        }
    }
}
