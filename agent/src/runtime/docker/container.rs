//! Makes, starts, stops and lists containers. Decides nothing about jobs.

use super::{
    Docker, body,
    calls::{self, ANSWER, Kind},
    engine::{Client, Engine, message, status},
    labels,
    limit::Standing,
    live::Live,
    monitor,
    network::Network,
    networks::Networks,
    scratch,
    stream::{self, Follower},
    time, trouble, usage,
};
use crate::runtime::{Attached, Chunk, ContainerId, ContainerSpec, Counts, Error, Exit, Known, Output};
use bollard::{
    errors::Error as DockerError,
    models::{ContainerCreateBody, ContainerState, ContainerStateStatusEnum, ContainerSummaryStateEnum},
    query_parameters::{
        CreateContainerOptions, InspectContainerOptions, ListContainersOptions, StartContainerOptions,
    },
};
use longshore_common::{
    clock::{Moment, Timestamp},
    job::Outcome,
    tasks,
};
use rustix::process::Resource;
use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};
use tokio::sync::mpsc;

/// What `/init` said arrives within this after the exit, if it said something.
const COMPLAINT: Duration = Duration::from_secs(2);

impl Docker {
    pub(super) async fn create_container(&self, spec: &ContainerSpec) -> Result<ContainerId, Error> {
        let client = self.engine.client().await?;
        let network = self.networks.of(spec.network);
        if let Some(network) = network {
            let ready = tokio::time::timeout(ANSWER, network.ready()).await;
            ready.unwrap_or_else(|_| Err(calls::unanswered(Kind::Create)))?;
        }
        let limits = self.limits(&client).await?;
        let node = body::Node {
            network: network.map_or("none", Network::name),
            engine_log_bytes: self.config.engine_log_bytes,
            layer_quota: limits.layer,
            oci_runtime: self.config.oci_runtime.as_deref(),
            gpus: client.facts.gpus.chosen(self.config.gpus),
            devices: &self.config.devices,
            mounts: &self.config.mounts,
            open_files: rustix::process::getrlimit(Resource::Nofile).maximum.unwrap_or(body::OPEN_FILES),
        };
        let body = body::body(spec, &node)?;
        let folders = vec![spec.scratch.out.clone(), spec.scratch.tmp.clone()];
        let limit = limits.scratch.then_some(spec.resources.scratch_bytes);
        blocking({
            let scratch = spec.scratch.clone();
            move || scratch::make(&scratch, limit)
        })
        .await
        .map_err(|error| Error::ends(Outcome::RuntimeError, format!("make the scratch folders: {error}")))?;
        let name = body::name(spec);
        let id = match self.create_named(&client, spec, &name, body).await? {
            Some(created) => created,
            None => self.adopt(spec, &name).await?,
        };
        *self.containers.get(&id).scratch.lock().unwrap_or_else(PoisonError::into_inner) = folders;
        Ok(id)
    }

    /// What has a hard limit here, as it was seen last.
    async fn limits(&self, client: &Client) -> Result<Standing, Error> {
        match self.limits.known() {
            Some(known) => Ok(known),
            None => self.look_at_limits(client).await,
        }
    }

    pub(super) async fn look_at_limits(&self, client: &Client) -> Result<Standing, Error> {
        let (limits, facts) = (Arc::clone(&self.limits), Arc::clone(&client.facts));
        let engine = client.tether.pid();
        blocking(move || Ok(limits.look(&facts, engine)))
            .await
            .map_err(|error| Error::ends(Outcome::RuntimeError, format!("look at the disk limits: {error}")))
    }

    /// The new container; `None`: there is one of this name.
    async fn create_named(
        &self,
        client: &Client,
        spec: &ContainerSpec,
        name: &str,
        body: ContainerCreateBody,
    ) -> Result<Option<ContainerId>, Error> {
        let pending = {
            let mut creating = self.creating.lock().unwrap_or_else(PoisonError::into_inner);
            creating.retain(|_, pending| Arc::strong_count(pending) > 1 || pending.is_under_way());
            Arc::clone(creating.entry(name.to_owned()).or_default())
        };
        let options = CreateContainerOptions { name: Some(name.to_owned()), ..Default::default() };
        let (api, engine, spec) = (client.api.clone(), Arc::clone(&self.engine), spec.clone());
        let call = async move {
            match api.create_container(Some(options), body).await {
                Ok(created) => Ok(Some(ContainerId(created.id))),
                Err(error) if status(&error) == Some(409) => Ok(None),
                Err(error) => Err(trouble::create(&engine, &error, &spec)),
            }
        };
        self.calls.ask(&pending, Kind::Create, client, call).await
    }

    /// The container of this name, if it is this very attempt's.
    async fn adopt(&self, spec: &ContainerSpec, name: &str) -> Result<ContainerId, Error> {
        let client = self.engine.client().await?;
        let found = self.engine.look(client.api.inspect_container(name, None::<InspectContainerOptions>));
        let found = found
            .await?
            .map_err(|error| self.engine.failed("look at the container that is already there", &error))?;
        let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
        let id = found.id.unwrap_or_default();
        if !labels::belong_to(&labels, spec) {
            let detail = format!("a container named {name} exists and is not this attempt's: remove it");
            return Err(Error::ends(Outcome::RuntimeError, detail));
        }
        let id = ContainerId(id);
        self.containers.get(&id).note_started_before(was_started(found.state));
        Ok(id)
    }

    /// Whether the start that nobody answered took place.
    async fn is_started(&self, id: &ContainerId) -> Result<bool, Error> {
        Ok(was_started(self.state(id).await?))
    }

    pub(super) async fn container_runs_since(&self, id: &ContainerId) -> Result<Option<Timestamp>, Error> {
        let running = self.state(id).await?.filter(|state| state.running == Some(true));
        Ok(running.and_then(|state| state.started_at).as_deref().and_then(time::parse))
    }

    async fn state(&self, id: &ContainerId) -> Result<Option<ContainerState>, Error> {
        let client = self.engine.client().await?;
        let found = client.api.inspect_container(&id.0, None::<InspectContainerOptions>);
        let found = self.engine.look(found).await?;
        Ok(found.map_err(|error| self.engine.failed("look at the container", &error))?.state)
    }

    pub(super) async fn attach_container(
        &self,
        id: &ContainerId,
        seen: Counts,
        began: Option<Moment>,
    ) -> Result<Attached, Error> {
        let live = self.containers.get(id);
        if let Some(began) = began {
            live.note_began(began);
        }
        // Whether it was started is asked again by the start.
        live.note_started_before(true);
        let output = self.start_after(id, seen).await?;
        let state = self.state(id).await?.unwrap_or_default();
        let [started_at, finished_at] =
            [state.started_at, state.finished_at].map(|at| at.as_deref().and_then(time::parse));
        // A loaded engine notes the start of a short container after its end.
        let finished_at = finished_at.filter(|_| state.running == Some(false));
        let started_at = started_at.into_iter().chain(finished_at).min().unwrap_or_else(Timestamp::now);
        Ok(Attached { output, started_at })
    }

    pub(super) async fn start_container(&self, id: &ContainerId) -> Result<Output, Error> {
        self.start_after(id, Counts::default()).await
    }

    async fn start_after(&self, id: &ContainerId, seen: Counts) -> Result<Output, Error> {
        let live = self.containers.get(id);
        let attached = match self.calls.join(&live.starting, Kind::Start).await {
            Some(started) => Some(started?),
            None => {
                if live.started_before() {
                    live.note_started_before(self.is_started(id).await?);
                }
                if live.started_before() { None } else { Some(self.attach_and_start(id, &live).await?) }
            }
        };
        let (sender, output) = mpsc::channel::<Chunk>(stream::CHUNKS);
        monitor::begin(&self.engine, id, &live);
        let follower = Follower::new(Arc::clone(&self.engine), id.clone(), live, sender, seen);
        tasks::spawn("container.output", follower.run(attached));
        Ok(Output(output))
    }

    async fn attach_and_start(&self, id: &ContainerId, live: &Arc<Live>) -> Result<stream::Raw, Error> {
        let client = self.engine.client().await?;
        let (engine, networks) = (Arc::clone(&self.engine), Arc::clone(&self.networks));
        let call = attach_and_start(engine, networks, client.clone(), id.clone(), Arc::clone(live));
        self.calls.ask(&live.starting, Kind::Start, &client, call).await
    }

    pub(super) async fn wait_container(&self, id: &ContainerId) -> Result<Exit, Error> {
        let live = self.containers.get(id);
        monitor::begin(&self.engine, id, &live);
        let exit = live.end().await?;
        if trouble::may_be_entrypoint(exit.code) && !live.started_before() {
            drop(tokio::time::timeout(COMPLAINT, live.read_out()).await);
            if let Some(error) = live.complaint().and_then(|text| trouble::init_complaint(&text)) {
                return Err(error);
            }
        }
        Ok(exit)
    }

    pub(super) async fn list_containers(&self) -> Result<Vec<Known>, Error> {
        let client = self.engine.client().await?;
        let options = ListContainersOptions {
            all: true,
            filters: Some(labels::of_agent(self.agent)),
            ..Default::default()
        };
        let found = client
            .api
            .list_containers(Some(options))
            .await
            .map_err(|error| self.engine.failed("list the containers", &error))?;
        let known = found.into_iter().filter_map(|container| {
            let running = matches!(
                container.state,
                Some(ContainerSummaryStateEnum::RUNNING | ContainerSummaryStateEnum::PAUSED)
            );
            labels::known(&container.id?, running, &container.labels?)
        });
        Ok(known.collect())
    }
}

async fn attach_and_start(
    engine: Arc<Engine>,
    networks: Arc<Networks>,
    client: Client,
    id: ContainerId,
    live: Arc<Live>,
) -> Result<stream::Raw, Error> {
    let attached = stream::attach(&client, &id)
        .await
        .map_err(|error| engine.failed("attach to the container", &error))?;
    live.runs_under(&client, true);
    // A short container is over before a loaded engine answers.
    let started = tokio::select! {
        biased;
        answer = client.api.start_container(&id.0, None::<StartContainerOptions>) => answer,
        never = usage::glance(&id, &live) => match never {},
    };
    match started {
        Ok(()) => {
            client.tether.note_contact();
            live.note_began(Moment::now());
            Ok(attached)
        }
        Err(error) => {
            if is_network_missing(&error) {
                // Somebody pruned it. The next attempt makes it again.
                networks.forget();
            }
            let error = trouble::start(&engine, &error);
            if error.is_transient() {
                // It may run already: what it wrote meanwhile is in the engine's log.
                live.note_started_before(true);
            }
            Err(error)
        }
    }
}

fn was_started(state: Option<ContainerState>) -> bool {
    state.and_then(|state| state.status) != Some(ContainerStateStatusEnum::CREATED)
}

fn is_network_missing(error: &DockerError) -> bool {
    status(error) == Some(404) && message(error).contains("network")
}

/// Runs file work off the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| Err(std::io::Error::other(panic)))
}
