//! All machines at one moment, as placement looks beyond the one that asks: what lies where, who has room, who brings
//! which image. Made once for many claims; decides nothing.

use super::{Shared, agents, types::AgentView, work::Work};
use crate::placement::{Load, Locality, Neighbour, Sight};
use longshore_common::{
    agent::{AgentState, Grant, Holdings},
    ids::AgentId,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Of agents that do not tell what they have nobody expects anything, and they are not held back.
pub(super) fn of(shared: &Shared, views: &[AgentView]) -> Sight {
    let told = || views.iter().filter_map(|view| Some((view, view.holdings.as_ref()?)));
    let mut pulls: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for (image, agent) in shared.live.bringing() {
        if let Some((view, holdings)) = told().find(|(view, _)| view.identity.id == agent)
            && !holdings.images.contains(&image)
        {
            pulls.entry(image).or_default().push((agent, view.identity.name.clone()));
        }
    }
    let online = told().filter(|(view, _)| view.state == AgentState::Online);
    let machines = online.map(|(view, holdings)| Neighbour {
        id: view.identity.id,
        name: view.identity.name.clone(),
        machine: agents::machine(view).with(&shared.live.holds(view.identity.id)),
        holdings: Arc::clone(holdings),
    });
    let most_pulls = shared.config.pulls_at_once as usize;
    Sight { machines: machines.collect(), pulls: Arc::new(pulls), most_pulls }
}

/// As the machine of this view sees it.
pub(super) fn from(view: &AgentView, sight: &Sight) -> Locality {
    Locality { id: Some(view.identity.id), here: view.holdings.clone(), sight: sight.clone() }
}

/// For the claims of one batch.
#[derive(Debug, Default)]
pub(super) struct Near {
    sight: Sight,
    /// Name, and what lies there.
    agents: HashMap<AgentId, (String, Option<Arc<Holdings>>)>,
}

impl Near {
    /// Where nobody tells what lies there, nobody looks.
    pub(super) fn look(shared: &Shared, work: &Work) -> Self {
        if !shared.agents.tell_holdings() {
            return Self::default();
        }
        let mut views = shared.agents.views(&shared.live, shared.config.disconnect_tolerance);
        for view in &mut views {
            work.fleet.overlay(view, work.now);
        }
        let sight = of(shared, &views);
        let known = views.into_iter().map(|view| (view.identity.id, (view.identity.name, view.holdings)));
        Self { sight, agents: known.collect() }
    }

    pub(super) fn of(&self, agent: AgentId) -> Locality {
        let here = self.agents.get(&agent).and_then(|(_, holdings)| holdings.clone());
        Locality { id: Some(agent), here, sight: self.sight.clone() }
    }

    /// What it was granted it is about to bring, as far as it does not lie there.
    pub(super) fn took(&mut self, agent: AgentId, grants: &[Grant]) {
        let Some((name, Some(here))) = self.agents.get(&agent) else { return };
        for image in grants.iter().map(|grant| Load::of(&grant.spec).image) {
            if image.is_empty() || here.images.contains(&image) {
                continue;
            }
            let pulling = Arc::make_mut(&mut self.sight.pulls).entry(image).or_default();
            if pulling.iter().all(|(id, _)| *id != agent) {
                pulling.push((agent, name.clone()));
            }
        }
    }
}
