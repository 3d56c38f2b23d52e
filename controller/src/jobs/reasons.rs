//! One job against every machine, as its next claim would judge it: the first reason why not, until when at the
//! latest, and what to ask for if it can never be. Changes nothing.

use super::{
    Shared, agents, sight,
    types::{AgentReason, AgentView, Explanation},
};
use crate::placement::{self, Candidate, Hold, Kept, Round, Sight, Tenants};
use longshore_common::clock::Timestamp;

/// All machines at one moment.
#[derive(Debug)]
pub(super) struct Weigher {
    agents: Vec<Seen>,
    sight: Sight,
    tenants: Tenants,
    now: Timestamp,
}

#[derive(Debug)]
struct Seen {
    view: AgentView,
    holds: Vec<Hold>,
    kept: Option<(longshore_common::ids::JobId, std::sync::Arc<longshore_common::job::JobSpec>)>,
}

impl Weigher {
    /// `project`: others' jobs are not named to it.
    pub(super) fn new(shared: &Shared, views: Vec<AgentView>, (project, tenants): (&str, Tenants)) -> Self {
        let sight = sight::of(shared, &views);
        let agents = views.into_iter().map(|mut view| {
            let (holds, kept) = (shared.live.holds(view.identity.id), shared.reserved.of(view.identity.id));
            agents::hide_others(&mut view, project);
            Seen { view, holds, kept }
        });
        Self { agents: agents.collect(), sight, tenants, now: Timestamp::now() }
    }

    /// `room`: what is said of an agent that takes it.
    pub(super) fn weigh(&self, candidate: &Candidate<'_>, room: &str) -> Explanation {
        let agents: Vec<_> = self.agents.iter().map(|seen| self.one(seen, candidate, room)).collect();
        let estimate = agents.iter().filter(|agent| !agent.permanent).filter_map(|agent| agent.until).min();
        let never = !agents.is_empty() && agents.iter().all(|agent| agent.permanent);
        let changes = if never { self.changes(candidate) } else { Vec::new() };
        Explanation { agents, estimate, changes, ..Explanation::default() }
    }

    fn one(&self, seen: &Seen, candidate: &Candidate<'_>, room: &str) -> AgentReason {
        let machine = agents::machine(&seen.view).with(&seen.holds);
        let known = machine.whole.as_ref().map_or_else(Vec::new, |whole| whole.gpus.clone());
        let held = (&seen.holds[..], &known[..]);
        let kept = seen.kept.clone().filter(|(job, _)| *job != candidate.id);
        let is_own = seen.kept.is_some() && kept.is_none();
        let kept = kept.and_then(|kept| Kept::new(kept, &machine, held, self.now));
        let locality = sight::from(&seen.view, &self.sight);
        let round = Round { machine, tenants: self.tenants.clone(), kept, locality, now: self.now };
        let agent = seen.view.identity.name.clone();
        let Err(reason) = round.judge(candidate) else {
            return AgentReason { agent, reason: room.to_owned(), permanent: false, until: Some(self.now) };
        };
        let free = (!reason.permanent)
            .then(|| placement::soonest(candidate.spec, &round.machine, held, self.now))
            .flatten();
        let mut text = reason.text;
        let jobs = round.machine.jobs;
        if !reason.permanent && text.starts_with("needs ") && !text.contains("; GPU") && jobs > 0 {
            text.push_str(if jobs == 1 { "; a job runs on it" } else { "; jobs run on it" });
        }
        if is_own {
            text.push_str("; the machine is kept for this job");
        }
        AgentReason { agent, reason: text, permanent: reason.permanent, until: free.map(|(at, _)| at) }
    }

    /// Of the machine that is nearest to what is asked for.
    fn changes(&self, candidate: &Candidate<'_>) -> Vec<String> {
        let of = |seen: &Seen| {
            let changes = placement::changes(candidate.spec, &agents::machine(&seen.view));
            (changes.len(), seen.view.identity.name.clone(), changes)
        };
        let nearest = self.agents.iter().map(of).filter(|(count, ..)| *count > 0).min();
        let Some((_, agent, changes)) = nearest else { return Vec::new() };
        changes.into_iter().map(|change| format!("{change} ({agent})")).collect()
    }
}
