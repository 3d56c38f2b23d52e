//! The agent's own bridge: its containers reach the outside world, not one another, not their host. A container
//! never gets on it before the rules are in place and have been tried out.

use super::{
    engine::{Engine, status},
    firewall::Firewall,
    labels, probe,
};
use crate::runtime::{
    Error, NetworkProblem,
    config::{Firewall as Wanted, NetworkConfig},
};
use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest};
use longshore_common::{ids::AgentId, job::Outcome};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::Mutex;

#[derive(Debug)]
pub(super) struct Network {
    engine: Arc<Engine>,
    agent: AgentId,
    name: String,
    config: NetworkConfig,
    firewall: Firewall,
    /// Containers may be put on it.
    ready: AtomicBool,
    /// Id of the bridge whose rules have been tried out. One preparation at a time.
    tried: Mutex<Option<String>>,
}

impl Network {
    pub(super) fn new(engine: Arc<Engine>, agent: AgentId, config: NetworkConfig) -> Self {
        let id = agent.to_string();
        let tail = labels::tail(&id);
        Self {
            name: format!("longshore-{tail}"),
            // An interface's name has at most 15 characters.
            firewall: Firewall::new(interface(tail), tail),
            engine,
            agent,
            config,
            ready: AtomicBool::new(false),
            tried: Mutex::default(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Somebody removed it.
    pub(super) fn forget(&self) {
        self.ready.store(false, Ordering::Release);
    }

    /// Before a container is put on it. Costs nothing once it is prepared.
    pub(super) async fn ready(&self) -> Result<(), Error> {
        if self.ready.load(Ordering::Acquire) {
            return Ok(());
        }
        match self.prepare().await {
            Err(problem) if !problem.may_claim => Err(Error::ends(Outcome::RuntimeError, problem.detail)),
            _ => Ok(()),
        }
    }

    /// Makes what is missing, and tries it out when something was.
    pub(super) async fn prepare(&self) -> Result<(), NetworkProblem> {
        let mut tried = self.tried.lock().await;
        let result = self.make_and_try(&mut tried).await;
        let may_claim = result.is_ok() || self.config.firewall == Wanted::BestEffort;
        self.ready.store(may_claim, Ordering::Release);
        result.map_err(|reason| {
            *tried = None;
            let hint =
                if may_claim { "" } else { "; runtime.network.firewall = \"best-effort\" works without" };
            NetworkProblem { detail: format!("container network: {reason}{hint}"), may_claim }
        })
    }

    async fn make_and_try(&self, tried: &mut Option<String>) -> Result<(), String> {
        let bridge = self.bridge().await.map_err(|error| error.to_string())?;
        let changed = self.firewall.assert().await.map_err(|error| error.to_string())?;
        if changed || tried.as_ref() != Some(&bridge) {
            probe::run(&self.engine, self.agent, &self.name).await?;
            *tried = Some(bridge);
        }
        Ok(())
    }

    /// The bridge's id; it is made if it is not there.
    async fn bridge(&self) -> Result<String, Error> {
        let client = self.engine.client().await?;
        match client.api.inspect_network(&self.name, None).await {
            Ok(found) => return Ok(found.id.unwrap_or_default()),
            Err(error) if status(&error) == Some(404) => {}
            Err(error) => return Err(self.engine.failed("look at the agent's network", &error)),
        }
        let made = client.api.create_network(self.request()).await;
        made.map(|made| made.id).map_err(|error| self.engine.failed("make the agent's network", &error))
    }

    fn request(&self) -> NetworkCreateRequest {
        let tail = self.name.rsplit('-').next().unwrap_or_default();
        let options = [
            ("com.docker.network.bridge.name", interface(tail)),
            ("com.docker.network.bridge.enable_icc", "false".to_owned()),
        ];
        NetworkCreateRequest {
            name: self.name.clone(),
            driver: Some("bridge".to_owned()),
            options: Some(options.map(|(key, value)| (key.to_owned(), value)).into()),
            labels: Some(HashMap::from([(labels::AGENT.to_owned(), self.agent.to_string())])),
            // Without a wish the engine takes a range that no route of the host has.
            ipam: self.config.subnet.clone().map(|subnet| Ipam {
                config: Some(vec![IpamConfig { subnet: Some(subnet), ..Default::default() }]),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// Takes bridge and rules away: for an agent that leaves its machine for good.
    pub(super) async fn remove(&self) -> Result<(), Error> {
        self.forget();
        let client = self.engine.client().await?;
        match client.api.remove_network(&self.name).await {
            Err(error) if status(&error) != Some(404) => {
                return Err(self.engine.failed("remove the agent's network", &error));
            }
            _ => {}
        }
        let removed = self.firewall.remove().await;
        removed.map_err(|error| Error::ends(Outcome::RuntimeError, error.to_string()))
    }
}

fn interface(tail: &str) -> String {
    format!("ls-{tail}")
}
