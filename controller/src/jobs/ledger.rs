//! What projects hold and held, for their fair shares. In memory: use fades within hours, and a controller that starts
//! anew begins with what is held.

use super::{agents::Agents, live::Live, projects::Projects};
use crate::placement::{Shares, Usage};
use longshore_common::clock::Timestamp;
use std::{sync::Mutex, time::Duration};

#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Usage>);

impl Ledger {
    /// The shares of this moment. Costs nothing where there is one project only.
    pub(super) fn open(
        &self,
        (live, agents, projects): (&Live, &Agents, &Projects),
        now: Timestamp,
        half_life: Duration,
    ) -> Shares {
        if projects.is_alone() {
            return Shares::default();
        }
        let mut usage = self.0.lock().expect("nobody panics under this lock");
        usage.advance(now, live.by_project(), half_life);
        usage.shares(agents.total(), projects.weights())
    }
}
