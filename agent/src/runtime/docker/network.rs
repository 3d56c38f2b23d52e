//! The agent's own bridge: containers on it reach the outside world, not one another.

use super::engine::{Engine, status};
use super::labels;
use crate::runtime::{Error, NetworkProblem, config::NetworkConfig};
use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest};
use longshore_common::ids::AgentId;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

#[derive(Debug)]
pub(super) struct Network {
    engine: Arc<Engine>,
    agent: AgentId,
    config: NetworkConfig,
    there: AtomicBool,
}

pub(super) fn name(agent: AgentId) -> String {
    format!("longshore-{}", labels::tail(&agent.to_string()))
}

/// The bridge's interface on the host; at most 15 characters.
fn interface(agent: AgentId) -> String {
    format!("ls-{}", labels::tail(&agent.to_string()))
}

impl Network {
    pub(super) fn new(engine: Arc<Engine>, agent: AgentId, config: NetworkConfig) -> Self {
        Self { engine, agent, config, there: AtomicBool::new(false) }
    }

    pub(super) fn forget(&self) {
        self.there.store(false, Ordering::Release);
    }

    pub(super) async fn prepare(&self) -> Result<(), NetworkProblem> {
        self.ensure().await.map_err(|error| NetworkProblem { detail: error.to_string(), may_claim: false })
    }

    async fn ensure(&self) -> Result<(), Error> {
        let client = self.engine.client().await?;
        if client.api.inspect_network(&name(self.agent), None).await.is_ok() {
            self.there.store(true, Ordering::Release);
            return Ok(());
        }
        let options = [
            ("com.docker.network.bridge.name", interface(self.agent)),
            ("com.docker.network.bridge.enable_icc", "false".to_owned()),
        ];
        let request = NetworkCreateRequest {
            name: name(self.agent),
            driver: Some("bridge".to_owned()),
            options: Some(options.map(|(key, value)| (key.to_owned(), value)).into()),
            labels: Some(HashMap::from([(labels::AGENT.to_owned(), self.agent.to_string())])),
            ipam: self.config.subnet.clone().map(|subnet| Ipam {
                config: Some(vec![IpamConfig { subnet: Some(subnet), ..Default::default() }]),
                ..Default::default()
            }),
            ..Default::default()
        };
        match client.api.create_network(request).await {
            Ok(_) => {}
            Err(error) if status(&error) == Some(409) => {}
            Err(error) => return Err(self.engine.failed("make the agent's network", &error)),
        }
        self.there.store(true, Ordering::Release);
        Ok(())
    }
}
