//! The agent's bridges, one for each way to the outside. The narrow one is made when a job first asks for it.

use super::{
    engine::Engine,
    network::{Egress, Network},
};
use crate::runtime::{Error, NetworkProblem, config::NetworkConfig};
use longshore_common::{ids::AgentId, job::NetworkMode};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

#[derive(Debug)]
pub(super) struct Networks {
    all: Network,
    internet: Network,
    /// It was asked for, so its rules are asserted again as the other's are.
    internet_used: AtomicBool,
    /// By the operator's word.
    most: NetworkMode,
}

impl Networks {
    pub(super) fn new(engine: &Arc<Engine>, agent: AgentId, config: &NetworkConfig) -> Self {
        let new = |egress| Network::new(Arc::clone(engine), agent, egress, config.clone());
        Self {
            all: new(Egress::All),
            internet: new(Egress::Internet),
            internet_used: AtomicBool::new(false),
            most: config.egress,
        }
    }

    /// The bridge that a container of this mode is put on.
    pub(super) fn of(&self, mode: NetworkMode) -> Option<&Network> {
        match mode {
            NetworkMode::None => None,
            NetworkMode::Bridge => Some(&self.all),
            NetworkMode::Internet => {
                self.internet_used.store(true, Ordering::Release);
                Some(&self.internet)
            }
        }
    }

    /// Of a bridge that a container can be put on at once.
    pub(super) fn ready_name(&self) -> Option<&str> {
        [&self.all, &self.internet].into_iter().find(|network| network.is_ready()).map(Network::name)
    }

    /// Somebody removed one of them.
    pub(super) fn forget(&self) {
        self.all.forget();
        self.internet.forget();
    }

    /// Those that containers are or may be on.
    pub(super) async fn prepare(&self) -> Result<(), NetworkProblem> {
        if self.most == NetworkMode::Bridge {
            self.all.prepare().await?;
        }
        let narrow = self.most == NetworkMode::Internet || self.internet_used.load(Ordering::Acquire);
        // Containers of an earlier process may be on it.
        if narrow || self.internet.exists().await {
            self.internet.prepare().await?;
        }
        Ok(())
    }

    /// Also one that an earlier process made.
    pub(super) async fn remove(&self) -> Result<(), Error> {
        let internet = self.internet.remove().await;
        self.all.remove().await.and(internet)
    }
}
