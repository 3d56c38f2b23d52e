//! The agent's own bridge: its containers reach the outside world, not one another, not their host. A container
//! never gets on it before the rules are in place and have been tried out.

use super::{
    engine::{Client, Engine, message, status},
    firewall::{self, Closed, Firewall},
    labels, probe, subnet,
};
use crate::runtime::{
    Error, NetworkProblem,
    config::{Firewall as Wanted, NetworkConfig},
};
use bollard::{
    models::{Ipam, IpamConfig, NetworkCreateRequest},
    query_parameters::ListNetworksOptions,
};
use longshore_common::{ids::AgentId, job::Outcome};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::Mutex;

/// Agents that start together may choose the same block.
const TRIES: usize = 8;

/// How far the containers of a bridge reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Egress {
    All,
    /// Public addresses, and the private ones that the operator opened.
    Internet,
}

impl Egress {
    /// In the names of all that belongs to the bridge.
    fn tail(self, agent: AgentId) -> String {
        let id = agent.to_string();
        let tail = labels::tail(&id);
        match self {
            Self::All => tail.to_owned(),
            Self::Internet => format!("{tail}-i"),
        }
    }

    fn closed(self, config: &NetworkConfig) -> Closed {
        match self {
            Self::All => Closed::LinkLocal,
            Self::Internet => Closed::PrivateBut(config.internet_and.clone()),
        }
    }
}

#[derive(Debug)]
pub(super) struct Network {
    engine: Arc<Engine>,
    agent: AgentId,
    name: String,
    egress: Egress,
    config: NetworkConfig,
    firewall: Firewall,
    /// Containers may be put on it.
    ready: AtomicBool,
    /// Id of the bridge whose rules have been tried out. One preparation at a time.
    tried: Mutex<Option<String>>,
}

impl Network {
    pub(super) fn new(engine: Arc<Engine>, agent: AgentId, egress: Egress, config: NetworkConfig) -> Self {
        let tail = egress.tail(agent);
        let closed = egress.closed(&config);
        Self {
            name: format!("longshore-{tail}"),
            // An interface's name has at most 15 characters.
            firewall: Firewall::new(interface(&tail), &tail, closed),
            egress,
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

    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Somebody removed it.
    pub(super) fn forget(&self) {
        self.ready.store(false, Ordering::Release);
    }

    /// Before a container is put on it. Costs nothing once it is prepared.
    pub(super) async fn ready(&self) -> Result<(), Error> {
        if self.is_ready() {
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

    /// Whether it was made, perhaps by an earlier process.
    pub(super) async fn exists(&self) -> bool {
        match self.engine.client().await {
            Ok(client) => client.api.inspect_network(&self.name, None).await.is_ok(),
            Err(_) => false,
        }
    }

    /// The bridge's id; it is made if it is not there.
    async fn bridge(&self) -> Result<String, Error> {
        let client = self.engine.client().await?;
        match client.api.inspect_network(&self.name, None).await {
            Ok(found) => return Ok(found.id.unwrap_or_default()),
            Err(error) if status(&error) == Some(404) => {}
            Err(error) => return Err(self.engine.failed("look at the agent's network", &error)),
        }
        let wishes = match &self.config.subnet {
            Some(subnet) => vec![Some(subnet.clone())],
            // At last the engine may choose.
            None => {
                self.free_subnets(&client).await?.into_iter().take(TRIES).map(Some).chain([None]).collect()
            }
        };
        let mut refused = None;
        for subnet in wishes {
            match client.api.create_network(self.request(subnet)).await {
                Ok(made) => return Ok(made.id),
                // Another agent was faster.
                Err(error) if message(&error).contains("overlap") => refused = Some(error),
                Err(error) => return Err(self.engine.failed("make the agent's network", &error)),
            }
        }
        let refused = refused.map(|error| message(&error)).unwrap_or_default();
        Err(Error::ends(
            Outcome::RuntimeError,
            format!("no free addresses for the agent's network: {refused}"),
        ))
    }

    async fn free_subnets(&self, client: &Client) -> Result<Vec<String>, Error> {
        let networks = client.api.list_networks(None::<ListNetworksOptions>).await;
        let networks = networks.map_err(|error| self.engine.failed("list the networks", &error))?;
        let taken: Vec<_> = networks
            .into_iter()
            .filter_map(|network| network.ipam?.config)
            .flatten()
            .filter_map(|config| config.subnet)
            .collect();
        // Without it only the engine's own networks are known.
        let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
        let seed = u32::from_str_radix(labels::tail(&self.agent.to_string()), 16).unwrap_or_default();
        Ok(subnet::free(seed, &routes, &taken))
    }

    fn request(&self, subnet: Option<String>) -> NetworkCreateRequest {
        let tail = self.egress.tail(self.agent);
        let options = [
            ("com.docker.network.bridge.name", interface(&tail)),
            ("com.docker.network.bridge.enable_icc", "false".to_owned()),
        ];
        NetworkCreateRequest {
            name: self.name.clone(),
            driver: Some("bridge".to_owned()),
            options: Some(options.map(|(key, value)| (key.to_owned(), value)).into()),
            labels: Some(HashMap::from([(labels::AGENT.to_owned(), self.agent.to_string())])),
            ipam: subnet.map(|subnet| Ipam {
                config: Some(vec![IpamConfig { subnet: Some(subnet), ..Default::default() }]),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// Takes bridge and rules away; both stay while a container is on the bridge.
    pub(super) async fn remove(&self) -> Result<(), Error> {
        let mut tried = self.tried.lock().await;
        let client = self.engine.client().await?;
        match client.api.remove_network(&self.name).await {
            // Containers that outlive this process.
            Err(error) if message(&error).contains("active endpoints") => return Ok(()),
            Err(error) if status(&error) != Some(404) => {
                return Err(self.engine.failed("remove the agent's network", &error));
            }
            _ => {}
        }
        self.forget();
        *tried = None;
        match self.firewall.remove().await {
            // None were made.
            Ok(()) | Err(firewall::Error::Missing) => Ok(()),
            Err(error) => Err(Error::ends(Outcome::RuntimeError, error.to_string())),
        }
    }
}

fn interface(tail: &str) -> String {
    format!("ls-{tail}")
}
