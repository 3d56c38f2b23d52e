//! All machines at one moment, as placement looks beyond the one that asks: what lies where, who has room, who brings
//! which image. Made once for many claims; decides nothing.

use super::{Shared, agents, types::AgentView};
use crate::placement::{Locality, Neighbour, Sight};
use longshore_common::agent::AgentState;
use std::{collections::BTreeMap, sync::Arc};

/// Of agents that do not tell what they have nobody expects anything, and they are not held back.
pub(super) fn of(shared: &Shared, views: &[AgentView]) -> Arc<Sight> {
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
    Arc::new(Sight { machines: machines.collect(), pulls, most_pulls: shared.config.pulls_at_once as usize })
}

/// As the machine of this view sees it.
pub(super) fn from(view: &AgentView, sight: &Arc<Sight>) -> Locality {
    let sight = Arc::clone(sight);
    Locality { id: Some(view.identity.id), here: view.holdings.clone(), sight }
}
