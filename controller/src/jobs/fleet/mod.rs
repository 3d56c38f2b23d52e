//! What operators want of machines and projects: cordons, drains, labels, pauses. One state that only the writer
//! changes, so that a claim is granted before a cordon is acknowledged or not at all. Must never end a job by itself:
//! past a drain's deadline the agent is asked to hand back.

mod change;
mod commands;
mod told;

pub(crate) use told::FleetWatch;

#[cfg(test)]
pub(super) use change::Happening;
pub(super) use change::{Change, Named, apply};

use super::types::AgentView;
use crate::store::{Error, Standing, Store};
use longshore_common::{
    agent::{Gpu, Offer},
    clock::Timestamp,
    fleet::{Cordon, Orders, Pause},
    ids::AgentId,
};
use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

/// Of all projects.
pub(super) const ALL: &str = "";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fleet {
    standings: BTreeMap<AgentId, Standing>,
    /// By project; the empty one is all.
    pauses: BTreeMap<String, Pause>,
    /// Of the last event.
    revision: u64,
}

/// The state of the last commit.
#[derive(Debug, Default)]
pub(super) struct Board(RwLock<Arc<Fleet>>);

impl Board {
    pub(super) fn now(&self) -> Arc<Fleet> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The writer's alone, after its commit.
    pub(super) fn set(&self, fleet: Arc<Fleet>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = fleet;
    }
}

/// The state as one batch of the writer sees and changes it.
#[derive(Debug)]
pub(super) struct Draft {
    fleet: Arc<Fleet>,
    changed: bool,
    /// What is wanted is another: what could not be placed may be.
    ordered: bool,
}

impl Draft {
    pub(super) const fn new(fleet: Arc<Fleet>) -> Self {
        Self { fleet, changed: false, ordered: false }
    }

    fn change(&mut self) -> &mut Fleet {
        self.changed = true;
        Arc::make_mut(&mut self.fleet)
    }

    pub(super) const fn is_ordered(&self) -> bool {
        self.ordered
    }

    /// What is to be seen after the commit, if it is new.
    pub(super) fn changed(&self) -> Option<Arc<Fleet>> {
        self.changed.then(|| Arc::clone(&self.fleet))
    }
}

impl std::ops::Deref for Draft {
    type Target = Fleet;

    fn deref(&self) -> &Fleet {
        &self.fleet
    }
}

impl Fleet {
    pub(super) async fn load(store: &Store) -> Result<Board, Error> {
        let fleet = Self {
            standings: store.standings().await?,
            pauses: store.pauses().await?,
            revision: store.last_agent_event().await?,
        };
        Ok(Board(RwLock::new(Arc::new(fleet))))
    }

    /// Those that hold now.
    pub(super) fn orders(&self, agent: AgentId, now: Timestamp) -> Orders {
        let Some(standing) = self.standings.get(&agent) else { return Orders::default() };
        let mut orders = standing.orders.clone();
        orders.cordon = orders.cordon.filter(|cordon| cordon.holds(now));
        orders.gpus.retain(|_, cordon| cordon.holds(now));
        orders
    }

    fn cordon(&self, agent: AgentId, now: Timestamp) -> Option<&Cordon> {
        let standing = self.standings.get(&agent)?;
        standing.orders.cordon.as_ref().filter(|cordon| cordon.holds(now))
    }

    /// Whether a claim of this machine is granted nothing, whatever is queued.
    pub(super) fn is_closed(&self, agent: AgentId, now: Timestamp) -> bool {
        self.pauses.contains_key(ALL) || self.cordon(agent, now).is_some()
    }

    pub(super) fn is_cordoned(&self, agent: AgentId, now: Timestamp) -> bool {
        self.cordon(agent, now).is_some()
    }

    /// What a machine may be granted of what it offers, with the labels that it has by now.
    pub(super) fn narrowed<'a>(&self, agent: AgentId, offer: &'a Offer, now: Timestamp) -> Cow<'a, Offer> {
        let Some(standing) = self.standings.get(&agent) else { return Cow::Borrowed(offer) };
        let mut offer = offer.clone();
        label(&mut offer.labels, &standing.labels);
        let before = offer.gpus.len();
        let orders = self.orders(agent, now);
        offer.gpus.retain(|gpu| orders.of_gpu(gpu).is_none());
        let gone = u32::try_from(before - offer.gpus.len()).unwrap_or(u32::MAX);
        offer.free.gpus = offer.free.gpus.saturating_sub(gone);
        Cow::Owned(offer)
    }

    /// The machine as people and `explain` are to see it.
    pub(super) fn overlay(&self, view: &mut AgentView, now: Timestamp) {
        let id = view.identity.id;
        if let Some(standing) = self.standings.get(&id) {
            label(&mut view.identity.labels, &standing.labels);
            view.orders = self.orders(id, now);
        }
        if view.leaving.is_some() && view.orders.cordon.as_ref().is_none_or(|cordon| cordon.drain.is_none()) {
            view.orders.cordon.clone_from(&view.leaving);
        }
        for gpu in view.gpus.iter_mut().chain(&mut view.inventory.gpus) {
            if let Some(cordon) = view.orders.of_gpu(gpu) {
                let was_free = gpu.job.is_none() && gpu.busy.is_none();
                set_aside(gpu, &cordon.sentence(now));
                if was_free {
                    view.free.gpus = view.free.gpus.saturating_sub(1);
                }
            }
        }
    }

    /// Why the project's jobs wait: by somebody's word.
    pub(super) fn paused(&self, project: &str, now: Timestamp) -> Option<String> {
        let all = self.pauses.get(ALL).map(|pause| format!("all projects are {}", pause.sentence(now)));
        let own = || {
            let pause = self.pauses.get(project).filter(|_| project != ALL)?;
            Some(format!("project {project} is {}", pause.sentence(now)))
        };
        all.or_else(own)
    }

    /// The paused projects and why, for the claim.
    pub(super) fn all_paused(&self, now: Timestamp) -> impl Iterator<Item = (String, String)> {
        let projects = self.pauses.keys().filter(|project| *project != ALL);
        projects.filter_map(move |project| Some((project.clone(), self.paused(project, now)?)))
    }

    pub(super) const fn pauses(&self) -> &BTreeMap<String, Pause> {
        &self.pauses
    }

    /// Machines whose drain is past its deadline.
    fn overdue(&self, now: Timestamp) -> impl Iterator<Item = (AgentId, &Cordon)> {
        let due = move |cordon: &&Cordon| {
            cordon.drain.is_some_and(|drain| {
                drain.drained_at.is_none() && drain.deadline.is_some_and(|deadline| deadline <= now)
            })
        };
        let cordon = move |id: &AgentId| self.cordon(*id, now).filter(due);
        self.standings.keys().filter_map(move |id| Some((*id, cordon(id)?)))
    }

    /// Machines that are to be empty and are not known to be.
    fn draining(&self) -> impl Iterator<Item = AgentId> {
        let drains = |standing: &Standing| {
            standing
                .orders
                .cordon
                .as_ref()
                .is_some_and(|cordon| cordon.drain.is_some() && !cordon.is_drained())
        };
        self.standings.iter().filter(move |(_, standing)| drains(standing)).map(|(id, _)| *id)
    }

    /// Whether a cordon's time is over that is not ended yet.
    fn has_ended(&self, now: Timestamp) -> bool {
        let orders = |standing: &Standing| {
            let mut all = standing.orders.gpus.values().chain(&standing.orders.cordon);
            all.any(|cordon| !cordon.holds(now))
        };
        self.standings.values().any(orders)
    }

    /// When something of it ends by itself next, after `now`.
    fn due(&self, now: Timestamp) -> Option<Timestamp> {
        let of = |standing: &Standing| {
            let orders = &standing.orders;
            let gpus =
                orders.gpus.values().filter_map(|cordon| cordon.until).filter(|until| *until > now).min();
            let whole = orders.cordon.as_ref().and_then(|cordon| cordon.until);
            let deadline = orders.cordon.as_ref().and_then(|cordon| cordon.drain?.deadline);
            [gpus, whole, deadline].into_iter().flatten().collect::<Vec<_>>()
        };
        self.standings.values().flat_map(of).filter(|due| *due > now).min()
    }
}

fn label(labels: &mut BTreeMap<String, String>, over: &BTreeMap<String, Option<String>>) {
    for (name, value) in over {
        match value {
            Some(value) => labels.insert(name.clone(), value.clone()),
            None => labels.remove(name),
        };
    }
}

/// In front of whatever else keeps it.
fn set_aside(gpu: &mut Gpu, why: &str) {
    gpu.busy = Some(match gpu.busy.take() {
        None => why.to_owned(),
        Some(busy) => format!("{why}; {busy}"),
    });
}
