//! What a new controller process grants the attempts of its predecessor. It cannot know for how long their agents have
//! been silent: each gets one whole lease, but no more than twice without a word from its agent. After that only what
//! is left of the second one, or a controller that keeps crashing would keep dead agents' jobs for ever.

use super::{agents::Agents, live::Live, work};
use crate::{
    placement::Load,
    store::{Error, Store},
};
use longshore_common::clock::Timestamp;
use std::time::Duration;
use tokio::time::Instant;

const WHOLE_LEASES: u32 = 2;

/// The live attempts with their new leases, which are stored before anybody relies on them.
pub(super) async fn taken_over(store: &Store, agents: &Agents, usual: Duration) -> Result<Live, Error> {
    let (live, now) = (Live::default(), Timestamp::now());
    let mut owned = Vec::new();
    for (view, mut attempt) in store.live().await? {
        let lease = view.spec.disconnect_tolerance.unwrap_or(usual);
        let mut left = lease;
        if view.row.job.state.is_held() {
            if attempt.unheard < WHOLE_LEASES {
                attempt.unheard += 1;
                owned.push((attempt.attempt, attempt.unheard, now.plus(lease)));
            } else {
                left = attempt.lease_until.map_or(Duration::ZERO, |until| until.since(now)).min(lease);
            }
        }
        let process = agents.process(attempt.agent);
        let mut entry = work::entry(&view.row, &attempt, (lease, Load::of(&view.spec)), process);
        entry.until = Instant::now() + left;
        live.put(entry);
    }
    if !owned.is_empty() {
        let mut tx = store.begin().await?;
        tx.own_leases(&owned).await?;
        tx.commit().await?;
    }
    Ok(live)
}
