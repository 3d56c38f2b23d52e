//! Why a job waits, by the same functions as the claim's. Changes nothing.

use super::{
    Jobs, after,
    claim::candidate,
    error::Error,
    reasons::Weigher,
    turns,
    types::{AgentReason, Explanation, JobView},
};
use crate::{
    lifecycle::{Ending, Job},
    placement::Candidate,
    store::{Place, ViewRow},
};
use longshore_common::{
    clock::Timestamp,
    ids::JobId,
    job::{JobSpec, JobState, Outcome},
    units::HumanDuration,
};
use std::collections::HashMap;

/// A place in the queue is counted up to this.
const PLACES: u32 = 10_000;

impl Jobs {
    /// For every agent the first reason why not. None once an agent has it or it has ended, but for one that ended
    /// because no agent took it.
    pub async fn explain(&self, job: JobId) -> Result<Explanation, Error> {
        self.why(&self.row(job).await?).await
    }

    /// The same of a job that is not submitted, as if it came now.
    pub async fn explain_new(&self, project: &str, spec: &JobSpec) -> Result<Explanation, Error> {
        let candidate = Candidate { id: JobId::new(), project, spec, queued_at: Timestamp::now() };
        let weigher = self.weigher(project).await?;
        let weighed = weigher.weigh(&candidate, "has room; it would take the job at once");
        let place = self.place(&candidate, Timestamp::now()).await?;
        let summary = match spec.not_before.filter(|start| *start > Timestamp::now()) {
            Some(start) => format!("{}; as it is now: {}", begins(start), in_line(place, &weighed.agents)),
            None => in_line(place, &weighed.agents),
        };
        Ok(Explanation { place, summary, ..weighed })
    }

    pub(super) async fn why(&self, row: &ViewRow) -> Result<Explanation, Error> {
        let state = row.row.job.state;
        let room = match (state, &row.row.job.ending) {
            (JobState::Waiting, _) if row.row.job.attempts == 0 => {
                let summary = self.kept(row).await?;
                return Ok(Explanation { summary, ..Explanation::default() });
            }
            (JobState::Waiting, _) => {
                let job = &row.row.job;
                // Another one may have begun since the row was read.
                let last =
                    self.attempts(job.id).await?.into_iter().find(|a| a.attempt.number == job.attempts);
                let last = last.and_then(|attempt| attempt.ending);
                let summary = tried_again(job, last.as_ref(), Timestamp::now());
                return Ok(Explanation { summary, ..Explanation::default() });
            }
            (JobState::Queued, _) => "has room; it takes the job with its next claim",
            (_, Some(Ending { outcome: Outcome::QueueTimeout, .. })) => "has room now",
            _ => return Ok(Explanation { summary: summary(row, 0, &[]), ..Explanation::default() }),
        };
        let candidate = candidate(row);
        let weighed = self.weigher(&row.row.project).await?.weigh(&candidate, room);
        let queued = state == JobState::Queued;
        let place = if queued { self.place(&candidate, row.row.queued_at).await? } else { 0 };
        let summary = match self.paused_now(&row.row.project).filter(|_| place > 0) {
            Some(paused) => format!("{}; {paused}", line(place)),
            None => summary(row, place, &weighed.agents),
        };
        Ok(Explanation { place, summary, ..weighed })
    }

    /// What keeps a job that nobody has had yet.
    async fn kept(&self, row: &ViewRow) -> Result<String, Error> {
        let (shared, job) = (&self.inner.shared, &row.row.job);
        let mut said = Vec::new();
        if job.blocked {
            said.push(after::sentence(&shared.store.dependencies(job.id).await?));
        }
        said.extend(job.not_before.map(begins));
        if let Some(batch) = row.row.batch.as_ref().filter(|_| job.wants_turn()) {
            let bound = shared.store.batch(&batch.id).await?.and_then(|batch| batch.max_parallel);
            let going = shared.store.going_in_batch(&batch.id).await?;
            said.push(turns::sentence(batch.id.as_str(), bound.unwrap_or(going), going));
        }
        Ok(if said.is_empty() { "begins now".to_owned() } else { said.join("; ") })
    }

    async fn weigher(&self, project: &str) -> Result<Weigher, Error> {
        let tenants = self.inner.shared.projects.tenants(&mut &self.inner.shared.store).await?;
        let paused = self.paused_now(project).map(|why| (project.to_owned(), why));
        let fleet = self.inner.shared.fleet.now();
        let tenants = tenants.paused(fleet.all_paused(Timestamp::now())).paused(paused.into_iter());
        Ok(Weigher::new(&self.inner.shared, self.agents(), (project, &tenants)))
    }

    fn paused_now(&self, project: &str) -> Option<String> {
        self.inner.shared.fleet.now().paused(project, Timestamp::now())
    }

    /// 1: next in its order. Jobs of other projects count as far as these have a claim to come first.
    async fn place(&self, candidate: &Candidate<'_>, queued_at: Timestamp) -> Result<u32, Error> {
        let shared = &self.inner.shared;
        let place = Place {
            lane: &candidate.spec.lane(),
            rank: -i64::from(candidate.spec.priority),
            queued_at,
            id: candidate.id,
        };
        let counts = shared.store.places(&place, PLACES).await?;
        let own = counts.get(candidate.project).map_or(0, |ahead| ahead.older);
        let parts = (&shared.live, &shared.agents, &shared.projects);
        let shares = shared.ledger.open(parts, Timestamp::now(), shared.config.share_half_life);
        let score = shares.score(candidate.project);
        let weights = shared.projects.weights();
        let weight = |project: &str| u64::from(weights.get(project).copied().unwrap_or(1));
        let mut before = u64::from(own);
        for (project, ahead) in &counts {
            before += u64::from(ahead.urgent);
            if project != candidate.project {
                let first = u64::from(shares.score(project) < score);
                let turns = (u64::from(own) + first) * weight(project);
                before += turns.div_ceil(weight(candidate.project)).min(u64::from(ahead.equal));
            }
        }
        Ok(u32::try_from(before).unwrap_or(PLACES).min(PLACES) + 1)
    }

    /// For each job of a list why it waits, in a few words; empty for those that do not.
    pub async fn waits(&self, jobs: &[JobView]) -> Result<Vec<String>, Error> {
        let mut weighers: HashMap<&str, Weigher> = HashMap::new();
        for job in jobs.iter().filter(|job| job.state == JobState::Queued) {
            if !weighers.contains_key(&*job.project) {
                weighers.insert(&job.project, self.weigher(&job.project).await?);
            }
        }
        let now = Timestamp::now();
        let one = |job: &JobView| match job.state {
            JobState::Queued => {
                let candidate = Candidate {
                    id: job.id,
                    project: &job.project,
                    spec: &job.spec,
                    queued_at: job.created_at,
                };
                let weigher = weighers.get(&*job.project);
                let paused = || self.paused_now(&job.project);
                paused().or_else(|| weigher.map(|all| all.in_short(&candidate))).unwrap_or_default()
            }
            JobState::Waiting if job.blocked => {
                let names: Vec<_> = job.spec.after.iter().map(|after| after.job.as_str()).collect();
                format!("after {}", names.join(", "))
            }
            JobState::Waiting if job.attempts == 0 => match (job.not_before, &job.batch) {
                (Some(start), _) => begins(start),
                (None, Some(batch)) => format!("its turn in batch {}", batch.id),
                (None, None) => String::new(),
            },
            JobState::Waiting => follows(job.attempts + 1, job.not_before, now),
            _ => String::new(),
        };
        Ok(jobs.iter().map(one).collect())
    }
}

/// `attempt 1 ended: engine_restart: …; attempt 2 follows in 12s`.
fn tried_again(job: &Job, last: Option<&Ending>, now: Timestamp) -> String {
    let ended =
        last.map_or_else(String::new, |ending| format!("attempt {} ended: {}; ", job.attempts, said(ending)));
    format!("{ended}{}", follows(job.attempts + 1, job.not_before, now))
}

/// `begins at 2026-11-21T18:00:00Z at the earliest`
fn begins(start: Timestamp) -> String {
    format!("begins at {} at the earliest", start.to_rfc3339())
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
    in_line(place, agents)
}

fn in_line(place: u32, agents: &[AgentReason]) -> String {
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
