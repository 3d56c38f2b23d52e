//! One job against every machine, as its next claim would judge it: the first reason why not, until when at the
//! latest, and what to ask for if it can never be. Changes nothing.

use super::{
    Shared, agents, sight,
    types::{AgentReason, AgentView, Explanation},
};
use crate::placement::{self, Candidate, Hold, Machine, Reason, Round, Tenants};
use longshore_common::{clock::Timestamp, ids::JobId};

/// All machines at one moment.
#[derive(Debug)]
pub(super) struct Weigher {
    agents: Vec<Seen>,
}

#[derive(Debug)]
struct Seen {
    name: String,
    holds: Vec<Hold>,
    round: Round,
    /// Whom it is kept for, whether that one may begin or not.
    kept: Option<JobId>,
}

impl Weigher {
    /// `project`: others' jobs are not named to it.
    pub(super) fn new(shared: &Shared, views: Vec<AgentView>, (project, tenants): (&str, &Tenants)) -> Self {
        let (now, sight) = (Timestamp::now(), sight::of(shared, &views));
        let agents = views.into_iter().map(|mut view| {
            let (holds, seated) = (shared.live.holds(view.identity.id), shared.reserved.of(view.identity.id));
            agents::hide_others(&mut view, project);
            let machine = agents::machine(&view).with(&holds);
            let kept = seated.as_ref().and_then(|one| one.hold((&machine, &machine), &holds, tenants, now));
            let locality = sight::from(&view, &sight);
            let round = Round { machine, tenants: tenants.clone(), kept, locality, now };
            Seen { name: view.identity.name, holds, round, kept: seated.map(|one| one.job) }
        });
        Self { agents: agents.collect() }
    }

    /// `room`: what is said of an agent that takes it.
    pub(super) fn weigh(&self, candidate: &Candidate<'_>, room: &str) -> Explanation {
        let agents: Vec<_> = self.agents.iter().map(|seen| seen.weigh(candidate, room)).collect();
        let estimate = agents.iter().filter(|agent| !agent.permanent).filter_map(|agent| agent.until).min();
        let never = !agents.is_empty() && agents.iter().all(|agent| agent.permanent);
        let changes = if never { self.changes(candidate) } else { Vec::new() };
        Explanation { agents, estimate, changes, ..Explanation::default() }
    }

    /// The nearest hope, or the first agent's reason if there is none.
    pub(super) fn in_short(&self, candidate: &Candidate<'_>) -> String {
        let mut first: Option<(&str, Reason)> = None;
        for seen in &self.agents {
            match seen.round.judge(candidate) {
                Ok(_) => return format!("{} has room", seen.name),
                Err(reason) => {
                    if first.as_ref().is_none_or(|(_, first)| first.permanent && !reason.permanent) {
                        first = Some((&seen.name, reason));
                    }
                }
            }
        }
        match first {
            Some((name, reason)) if reason.permanent => {
                format!("no agent can ever take it; {name}: {}", reason.text)
            }
            Some((name, reason)) => format!("{name}: {}", reason.text),
            None => "no agent has ever joined".to_owned(),
        }
    }

    /// Of the machine that is nearest to what is asked for.
    fn changes(&self, candidate: &Candidate<'_>) -> Vec<String> {
        let of = |seen: &Seen| {
            let changes = placement::changes(candidate.spec, &seen.round.machine);
            (changes.len(), seen.name.clone(), changes)
        };
        let nearest = self.agents.iter().map(of).filter(|(count, ..)| *count > 0).min();
        let Some((_, agent, changes)) = nearest else { return Vec::new() };
        changes.into_iter().map(|change| format!("{change} ({agent})")).collect()
    }
}

impl Seen {
    fn weigh(&self, candidate: &Candidate<'_>, room: &str) -> AgentReason {
        let (agent, now) = (self.name.clone(), self.round.now);
        let Err(reason) = self.round.judge(candidate) else {
            return AgentReason { agent, reason: room.to_owned(), permanent: false, until: Some(now) };
        };
        let Machine { whole, jobs, .. } = &self.round.machine;
        let known = whole.as_ref().map_or(&[][..], |whole| &whole.gpus);
        let until =
            (!reason.permanent).then(|| self.round.soonest(candidate, (&self.holds, known))).flatten();
        let mut text = reason.text;
        if !reason.permanent && text.starts_with("needs ") && !text.contains("; GPU") && *jobs > 0 {
            text.push_str(if *jobs == 1 { "; a job runs on it" } else { "; jobs run on it" });
        }
        if self.kept == Some(candidate.id) {
            text.push_str("; the machine is kept for this job");
        }
        AgentReason { agent, reason: text, permanent: reason.permanent, until }
    }
}
