//! Why a job waits, by the same function as the claim's. Changes nothing.

use super::{
    Jobs, agents,
    error::Error,
    types::{AgentReason, Explanation, JobView},
};
use crate::{
    lifecycle::{Ending, Job},
    placement::{self, Machine},
    store::ViewRow,
};
use longshore_common::{
    clock::Timestamp,
    ids::JobId,
    job::{JobSpec, JobState, Outcome},
    units::HumanDuration,
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
            (JobState::Waiting, _) => {
                let job = &row.row.job;
                // Another one may have begun since the row was read.
                let last =
                    self.attempts(job.id).await?.into_iter().find(|a| a.attempt.number == job.attempts);
                let last = last.and_then(|attempt| attempt.ending);
                let summary = tried_again(job, last.as_ref(), Timestamp::now());
                return Ok(Explanation { place: 0, summary, agents: Vec::new() });
            }
            (JobState::Queued, _) => "has room; it takes the job with its next claim",
            (_, Some(Ending { outcome: Outcome::QueueTimeout, .. })) => "has room now",
            _ => return Ok(Explanation { place: 0, summary: summary(row, 0, &[]), agents: Vec::new() }),
        };
        let tenants = self.inner.shared.projects.tenants(&mut &self.inner.shared.store).await?;
        let (now, fleet) = (Timestamp::now(), self.inner.shared.fleet.now());
        let paused = fleet.paused(&row.row.project, now);
        let pause = paused.clone().map(|pause| (row.row.project.clone(), pause));
        let bound = tenants.paused(pause.into_iter()).refuse(&row.row.project, &row.spec);
        let mut reasons = Vec::new();
        for agent in self.agents() {
            let machine = agents::machine(&agent);
            let reason = bound.clone().or_else(|| placement::explain(&row.spec, &machine));
            let (reason, permanent) =
                reason.map_or_else(|| (room.to_owned(), false), |reason| (reason.text, reason.permanent));
            reasons.push(AgentReason { agent: agent.identity.name, reason, permanent });
        }
        let place =
            if state == JobState::Queued { self.inner.shared.store.place(row, PLACES).await? + 1 } else { 0 };
        let summary = match paused.filter(|_| place > 0) {
            Some(paused) => format!("{}; {paused}", line(place)),
            None => summary(row, place, &reasons),
        };
        Ok(Explanation { place, summary, agents: reasons })
    }

    /// For each job of a list why it waits, in a few words; empty for those that do not.
    pub fn waits(&self, jobs: &[JobView]) -> Vec<String> {
        let agents = self.agents().into_iter();
        let machines: Vec<_> = agents
            .map(|agent| {
                let machine = agents::machine(&agent);
                (agent.identity.name, machine)
            })
            .collect();
        let (now, fleet) = (Timestamp::now(), self.inner.shared.fleet.now());
        let one = |job: &JobView| match job.state {
            JobState::Queued => {
                fleet.paused(&job.project, now).unwrap_or_else(|| in_short(&job.spec, &machines))
            }
            JobState::Waiting => follows(job.attempts + 1, job.not_before, now),
            _ => String::new(),
        };
        jobs.iter().map(one).collect()
    }
}

/// The nearest hope, or the first agent's reason if there is none.
fn in_short(spec: &JobSpec, machines: &[(String, Machine)]) -> String {
    let mut reasons = Vec::with_capacity(machines.len());
    for (name, machine) in machines {
        match placement::explain(spec, machine) {
            None => return format!("{name} has room"),
            Some(reason) => reasons.push((name, reason)),
        }
    }
    match (reasons.iter().find(|(_, reason)| !reason.permanent), reasons.first()) {
        (Some((name, reason)), _) => format!("{name}: {}", reason.text),
        (None, Some((name, reason))) => format!("no agent can ever take it; {name}: {}", reason.text),
        (None, None) => "no agent has ever joined".to_owned(),
    }
}

/// `attempt 1 ended: engine_restart: …; attempt 2 follows in 12s`.
fn tried_again(job: &Job, last: Option<&Ending>, now: Timestamp) -> String {
    let ended =
        last.map_or_else(String::new, |ending| format!("attempt {} ended: {}; ", job.attempts, said(ending)));
    format!("{ended}{}", follows(job.attempts + 1, job.not_before, now))
}

fn follows(attempt: u32, not_before: Option<Timestamp>, now: Timestamp) -> String {
    let wait = not_before.map(|time| time.since(now)).filter(|wait| !wait.is_zero());
    let soon = wait.map_or_else(|| "now".to_owned(), |wait| format!("in {}", HumanDuration(wait).rounded()));
    format!("attempt {attempt} follows {soon}")
}

fn said(Ending { outcome, detail }: &Ending) -> String {
    format!("{outcome}: {}", if detail.is_empty() { outcome.row().sentence } else { detail })
}

/// `2nd`, `3rd`, `11th`.
fn ordinal(number: u32) -> String {
    let ending = match (number % 100, number % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

fn line(place: u32) -> String {
    if place == 1 { "next in line".to_owned() } else { format!("{} in line", ordinal(place)) }
}

fn summary(row: &ViewRow, place: u32, agents: &[AgentReason]) -> String {
    let job = &row.row.job;
    if let Some(ending) = &job.ending {
        return format!("has ended: {}", said(ending));
    }
    if place == 0 {
        let agent = row.agent.as_deref().map(|name| format!(" on {name}")).unwrap_or_default();
        return format!("is {}{agent}, not in a queue", job.state);
    }
    let line = line(place);
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

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::job::RetryPolicy;
    use std::time::Duration;

    #[test]
    fn places_are_counted_as_people_do() {
        let all =
            [(2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (12, "12th"), (21, "21st"), (113, "113th")];
        for (number, text) in all {
            assert_eq!(ordinal(number), text);
        }
    }

    #[test]
    fn a_job_in_its_backoff_says_why_and_when() {
        let now = Timestamp::from_micros(0);
        let mut job = Job::new(JobId::new(), RetryPolicy::default(), None);
        job.attempts = 1;
        job.not_before = Some(now.plus(Duration::from_secs(12)));
        let ending = Ending { outcome: Outcome::AgentLost, detail: "gone".into() };
        assert_eq!(
            tried_again(&job, Some(&ending), now),
            "attempt 1 ended: agent_lost: gone; attempt 2 follows in 12s"
        );
        assert_eq!(tried_again(&job, None, now.plus(Duration::from_secs(60))), "attempt 2 follows now");
    }
}
