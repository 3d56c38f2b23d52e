//! The Docker Engine of this node through bollard, its only home. Keeps nothing that labels and the engine could
//! not tell again. Must never know the controller or a job's state.

mod absence;
mod access;
mod body;
mod calls;
mod container;
mod descendants;
mod discard;
mod engine;
mod exec;
mod firewall;
#[doc(hidden)]
pub mod fuzz;
mod gpus;
mod image;
mod join;
mod labels;
mod limit;
mod live;
mod login;
mod monitor;
mod network;
mod networks;
mod outage;
mod pause;
#[cfg(test)]
mod play;
mod probe;
mod pull;
mod reference;
mod remove;
mod scratch;
mod stop;
mod stream;
mod subnet;
mod tether;
mod time;
mod trial;
mod trouble;
mod usage;

pub use crate::sized::Missing;
pub use limit::{Standing, of_node};

use super::{
    Attached, Config, ContainerId, ContainerSpec, Counts, EngineInfo, Error, Exit, Image, ImageId,
    ImageRequest, Inside, Known, Output, Progress, Removal, Runtime, Sample,
};
use crate::sized;
use async_trait::async_trait;
use longshore_common::{
    clock::{Moment, Timestamp},
    exec::Start,
    ids::AgentId,
};
use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

/// The runtime of an agent on a real node.
#[derive(Debug)]
pub struct Docker {
    agent: AgentId,
    config: Config,
    engine: Arc<engine::Engine>,
    calls: Arc<calls::Calls>,
    /// By name.
    creating: Mutex<HashMap<String, Arc<calls::Pending<Option<ContainerId>>>>>,
    containers: live::Containers,
    pulls: Arc<pull::Pulls>,
    networks: Arc<networks::Networks>,
    trial: trial::Trial,
    limits: Arc<limit::Limits>,
    patience: stop::Patience,
}

impl Docker {
    /// Connects at the first call, and again whenever the engine went away.
    pub fn new(config: Config, agent: AgentId) -> Self {
        let engine = engine::Engine::new(config.host.clone());
        let engine = Arc::new(engine.with_oci_runtime(config.oci_runtime.clone()));
        let networks = networks::Networks::new(&engine, agent, &config.network);
        Self {
            agent,
            pulls: Arc::new(pull::Pulls::new(Arc::clone(&engine), config.pull.clone())),
            networks: Arc::new(networks),
            calls: Arc::new(calls::Calls::new(config.calls_at_once, calls::ANSWER)),
            creating: Mutex::default(),
            trial: trial::Trial::default(),
            limits: Arc::new(limit::Limits::new(config.disk_limit, None)),
            patience: stop::Patience::default(),
            engine,
            containers: live::Containers::default(),
            config,
        }
    }

    /// Sized file systems may be made and tried out in this folder, which scratch folders lie in.
    #[must_use]
    pub fn with_scratch_in(mut self, folder: PathBuf) -> Self {
        self.limits = Arc::new(limit::Limits::new(self.config.disk_limit, Some(folder)));
        self
    }

    /// An earlier process of this agent was there until then: what ended later, nobody has seen end.
    #[must_use]
    pub fn after(self, earlier: Option<Moment>) -> Self {
        if let Some(until) = earlier {
            self.engine.watched_until.set(until).expect("set here alone, and once");
        }
        self
    }
}

#[async_trait]
impl Runtime for Docker {
    async fn describe(&self) -> Result<EngineInfo, Error> {
        let engine = self.engine.describe().await?;
        match self.calls.hangs() {
            None => {
                let limits = self.look_at_limits(&self.engine.client().await?).await?;
                let warning = limits.warning(self.limits.mode());
                Ok(EngineInfo { disk_limit: limits.name().to_owned(), warning, ..engine })
            }
            Some(kind) => {
                self.try_out().await;
                Err(calls::unanswered(kind))
            }
        }
    }

    async fn ensure_image(&self, request: &ImageRequest, progress: &Progress) -> Result<Image, Error> {
        image::ensure(self, request, progress).await
    }

    async fn check_image(&self, request: &ImageRequest) -> Result<(), Error> {
        image::check(self, request).await
    }

    async fn images(&self, most: usize) -> Result<Option<BTreeSet<String>>, Error> {
        image::names(self, most).await.map(Some)
    }

    async fn remove_image(&self, image: &ImageId, names: &BTreeSet<String>) -> Result<Removal, Error> {
        discard::image(&self.engine, image, names).await
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<ContainerId, Error> {
        self.create_container(spec).await
    }

    async fn start(&self, container: &ContainerId) -> Result<Output, Error> {
        self.start_container(container).await
    }

    async fn attach(
        &self,
        container: &ContainerId,
        seen: Counts,
        began: Option<Moment>,
    ) -> Result<Attached, Error> {
        let attached = self.attach_container(container, seen, began).await;
        // Sessions end with the process that had them.
        let container = container.0.clone();
        drop(tokio::task::spawn_blocking(move || descendants::kill(&container, descendants::ANY)));
        attached
    }

    async fn runs_since(&self, container: &ContainerId) -> Result<Option<Timestamp>, Error> {
        self.container_runs_since(container).await
    }

    async fn wait(&self, container: &ContainerId) -> Result<Exit, Error> {
        self.wait_container(container).await
    }

    async fn stop(&self, container: &ContainerId, grace: Duration) -> Result<(), Error> {
        self.stop_container(container, grace).await
    }

    async fn exec(&self, container: &ContainerId, start: &Start) -> Result<Inside, Error> {
        exec::start(&self.engine, container, start).await
    }

    async fn usage(&self, container: &ContainerId) -> Result<Sample, Error> {
        // Not `get`: a late question must not bring a removed container's entry back.
        let live = self.containers.find(container).unwrap_or_default();
        usage::sample(&self.engine, container, &live).await
    }

    async fn remove(&self, container: &ContainerId) -> Result<(), Error> {
        self.remove_container(container).await
    }

    async fn list(&self) -> Result<Vec<Known>, Error> {
        self.list_containers().await
    }

    async fn prepare_network(&self) -> Result<(), super::NetworkProblem> {
        self.networks.prepare().await
    }

    async fn sees_mounts(&self) -> bool {
        // One that does not answer is waited for at the next call.
        let Ok(client) = self.engine.client().await else { return true };
        client.tether.pid().is_none_or(sized::sees_our_mounts)
    }

    async fn leave(&self) -> Result<(), Error> {
        self.networks.remove().await
    }
}
