//! The changes, applied by the writer: pure on the state, then written with what happened.

use super::{Draft, Fleet};
use crate::{
    jobs::live::Live,
    store::{AgentEvent, Error, Tx},
};
use longshore_common::{
    clock::Timestamp,
    fleet::{AgentEventKind as Kind, Cordon, Pause},
    ids::AgentId,
};
use std::collections::{BTreeMap, BTreeSet};

/// Events of one machine that are kept: a day of one that comes and goes every minute. None pushes out another's.
const KEPT: u32 = 2_000;

/// Who it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::jobs) struct Named {
    pub(in crate::jobs) id: AgentId,
    pub(in crate::jobs) name: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::jobs) struct Happening {
    pub(in crate::jobs) agent: Named,
    pub(in crate::jobs) kind: Kind,
    pub(in crate::jobs) detail: String,
    pub(in crate::jobs) author: String,
}

/// One GPU of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::jobs) struct GpuName {
    pub(in crate::jobs) uuid: String,
    /// `GPU 2`
    pub(in crate::jobs) name: String,
}

#[derive(Clone, Debug)]
pub(in crate::jobs) enum Change {
    Cordon {
        agent: Named,
        gpu: Option<GpuName>,
        cordon: Cordon,
    },
    Uncordon {
        agent: Named,
        gpu: Option<GpuName>,
        author: String,
    },
    /// Cordons whose time is over end. With the names of the machines.
    Expire(BTreeMap<AgentId, String>),
    /// Nothing seems to run there any more.
    Drained(Named),
    Label {
        agent: Named,
        labels: BTreeMap<String, Option<String>>,
        /// Those of its own settings: of others nothing needs to be remembered once they are taken away.
        own: BTreeSet<String>,
        author: String,
    },
    Removed {
        agent: Named,
        author: String,
    },
    Pause {
        project: String,
        pause: Pause,
    },
    Resume {
        project: String,
    },
    Happened(Vec<Happening>),
}

/// What has to be written.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) agents: BTreeSet<AgentId>,
    pub(super) projects: BTreeSet<String>,
    pub(super) happened: Vec<Happening>,
}

/// Changes the batch's state and writes it. Answers the revision of the last event.
pub(in crate::jobs) async fn apply(
    change: &Change,
    draft: &mut Draft,
    live: &Live,
    tx: &mut Tx,
    now: Timestamp,
) -> Result<u64, Error> {
    if let Change::Drained(agent) = change
        && !live.held_by(agent.id).is_empty()
    {
        return Ok(draft.revision);
    }
    let mut next = Fleet::clone(draft);
    let outcome = next.change(change, now);
    let first = next.revision + 1;
    next.revision += outcome.happened.len() as u64;
    if next == **draft {
        return Ok(draft.revision);
    }
    *draft.change() = next;
    draft.ordered |= !outcome.agents.is_empty() || !outcome.projects.is_empty();
    for agent in &outcome.agents {
        tx.put_standing(*agent, draft.standings.get(agent)).await?;
    }
    for project in &outcome.projects {
        tx.put_pause(project, draft.pauses.get(project)).await?;
    }
    let events: Vec<_> = (first..)
        .zip(outcome.happened)
        .map(|(revision, one)| AgentEvent {
            revision,
            at: now,
            agent: one.agent.id,
            name: one.agent.name,
            kind: one.kind,
            detail: one.detail,
            author: one.author,
        })
        .collect();
    if !events.is_empty() {
        tx.insert_agent_events(&events, KEPT).await?;
    }
    Ok(draft.revision)
}

impl Fleet {
    /// What was so already changes nothing, and is no event.
    pub(super) fn change(&mut self, change: &Change, now: Timestamp) -> Outcome {
        let mut outcome = Outcome::default();
        match change {
            Change::Cordon { agent, gpu, cordon } => {
                self.enter(agent, gpu.as_ref(), cordon, now, &mut outcome)
            }
            Change::Uncordon { agent, gpu, author } => {
                self.leave(agent, gpu.as_ref(), author, &mut outcome);
            }
            Change::Expire(names) => self.expire(names, now, &mut outcome),
            Change::Drained(agent) => self.drained(agent, now, &mut outcome),
            Change::Label { agent, labels, own, author } => {
                let standing = self.standings.entry(agent.id).or_default();
                let before = standing.labels.clone();
                standing.labels.extend(labels.clone());
                standing.labels.retain(|name, value| value.is_some() || own.contains(name));
                if standing.labels != before {
                    outcome.tell(agent, Kind::Labelled, labelled(labels), author);
                }
            }
            Change::Removed { agent, author } => {
                self.standings.remove(&agent.id);
                outcome.tell(agent, Kind::Removed, String::new(), author);
            }
            Change::Pause { project, pause } => {
                self.pauses.insert(project.clone(), pause.clone());
                outcome.projects.insert(project.clone());
            }
            Change::Resume { project } => {
                self.pauses.remove(project);
                outcome.projects.insert(project.clone());
            }
            Change::Happened(happened) => outcome.happened.clone_from(happened),
        }
        outcome
    }

    fn enter(
        &mut self,
        agent: &Named,
        gpu: Option<&GpuName>,
        cordon: &Cordon,
        now: Timestamp,
        outcome: &mut Outcome,
    ) {
        let orders = &mut self.standings.entry(agent.id).or_default().orders;
        let mut cordon = cordon.clone();
        let before = match gpu {
            Some(gpu) => orders.gpus.get(&gpu.uuid).cloned(),
            None => orders.cordon.clone(),
        };
        // A machine that was empty still is.
        if let (Some(drain), Some(before)) = (&mut cordon.drain, before.as_ref().and_then(|one| one.drain)) {
            drain.drained_at = before.drained_at;
        }
        let same = |one: &Cordon| Cordon { at: cordon.at, ..one.clone() } == cordon;
        if before.as_ref().is_some_and(same) {
            return;
        }
        let terms = cordon.terms(now).trim_start_matches([' ', ',', ':']).to_owned();
        let kind = if cordon.drain.is_some() { Kind::Draining } else { Kind::Cordoned };
        let detail = gpu.map_or(terms.clone(), |gpu| joined(&gpu.name, &terms));
        outcome.tell(agent, kind, detail, &cordon.author);
        match gpu {
            Some(gpu) => drop(orders.gpus.insert(gpu.uuid.clone(), cordon)),
            None => orders.cordon = Some(cordon),
        }
    }

    fn leave(&mut self, agent: &Named, gpu: Option<&GpuName>, author: &str, outcome: &mut Outcome) {
        let Some(standing) = self.standings.get_mut(&agent.id) else { return };
        let gone = match gpu {
            Some(gpu) => standing.orders.gpus.remove(&gpu.uuid),
            None => standing.orders.cordon.take(),
        };
        if gone.is_some() {
            let detail = gpu.map(|gpu| gpu.name.clone()).unwrap_or_default();
            outcome.tell(agent, Kind::Uncordoned, detail, author);
        }
    }

    fn expire(&mut self, names: &BTreeMap<AgentId, String>, now: Timestamp, outcome: &mut Outcome) {
        for (id, standing) in &mut self.standings {
            let name = names.get(id).cloned().unwrap_or_else(|| id.to_string());
            let agent = Named { id: *id, name };
            if standing.orders.cordon.take_if(|cordon| !cordon.holds(now)).is_some() {
                outcome.tell(&agent, Kind::Uncordoned, "its time was over".to_owned(), "");
            }
            standing.orders.gpus.retain(|uuid, cordon| {
                let holds = cordon.holds(now);
                if !holds {
                    outcome.tell(&agent, Kind::Uncordoned, format!("{uuid}: its time was over"), "");
                }
                holds
            });
        }
    }

    fn drained(&mut self, agent: &Named, now: Timestamp, outcome: &mut Outcome) {
        let standing = self.standings.get_mut(&agent.id);
        let cordon = standing.and_then(|standing| standing.orders.cordon.as_mut());
        let Some(drain) = cordon.and_then(|cordon| cordon.drain.as_mut()) else { return };
        if drain.drained_at.is_none() {
            drain.drained_at = Some(now);
            outcome.tell(agent, Kind::Drained, "nothing runs there".to_owned(), "");
        }
    }
}

impl Outcome {
    fn tell(&mut self, agent: &Named, kind: Kind, detail: String, author: &str) {
        self.agents.insert(agent.id);
        self.happened.push(Happening { agent: agent.clone(), kind, detail, author: author.to_owned() });
    }
}

fn joined(name: &str, terms: &str) -> String {
    if terms.is_empty() { name.to_owned() } else { format!("{name}: {terms}") }
}

/// `site=bern, rack-`
fn labelled(labels: &BTreeMap<String, Option<String>>) -> String {
    let one = |(name, value): (&String, &Option<String>)| match value {
        Some(value) => format!("{name}={value}"),
        None => format!("{name}-"),
    };
    labels.iter().map(one).collect::<Vec<_>>().join(", ")
}
