//! The engine without Longshore: what the same containers cost in a plain bollard loop.

use anyhow::Context as _;
use bollard::{
    Docker,
    models::{ContainerCreateBody, HostConfig},
    query_parameters::{
        AttachContainerOptionsBuilder, CreateContainerOptions, EventsOptionsBuilder, InspectContainerOptions,
        LogsOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions, WaitContainerOptions,
    },
};
use futures::StreamExt as _;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

#[derive(Debug, Clone)]
pub(crate) struct Engine {
    docker: Docker,
    pub(crate) image: String,
}

impl Engine {
    pub(crate) async fn connect(image: &str) -> anyhow::Result<Self> {
        let docker = Docker::connect_with_local_defaults()?.negotiate_version().await?;
        Ok(Self { docker, image: image.to_owned() })
    }

    /// The settings Longshore gave a container of this job, to give the same to the raw loop.
    pub(crate) async fn settings_of(&self, label: &str, value: &str) -> anyhow::Result<HostConfig> {
        let filters = HashMap::from([("label", vec![format!("{label}={value}")])]);
        let options = bollard::query_parameters::ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&filters)
            .build();
        let found = self.docker.list_containers(Some(options)).await?;
        let id = found.first().and_then(|c| c.id.clone()).context("the job's container is not there")?;
        let inspected = self.docker.inspect_container(&id, None::<InspectContainerOptions>).await?;
        inspected.host_config.context("the engine tells no settings")
    }

    /// One whole life: create, attach, start, read to the end, wait, remove. The answer is the time from before
    /// the create call to after the start call.
    pub(crate) async fn live(&self, command: &[&str], settings: &HostConfig) -> anyhow::Result<Duration> {
        let before = Instant::now();
        let id = self.create(command, settings).await?;
        let attach = AttachContainerOptionsBuilder::new().stdout(true).stderr(true).stream(true).build();
        let mut attached = self.docker.attach_container(&id, Some(attach)).await?;
        self.docker.start_container(&id, None::<StartContainerOptions>).await?;
        let started = before.elapsed();
        while let Some(chunk) = attached.output.next().await {
            chunk?;
        }
        self.ended(&id).await;
        self.remove(&id).await?;
        Ok(started)
    }

    /// Bytes per second of `docker logs -f` on a container that prints, then of `docker logs` once it has ended.
    pub(crate) async fn log_rates(
        &self,
        command: &[&str],
        settings: &HostConfig,
    ) -> anyhow::Result<(f64, f64)> {
        let id = self.create(command, settings).await?;
        self.docker.start_container(&id, None::<StartContainerOptions>).await?;
        let follow = self.read_logs(&id, true).await?;
        self.ended(&id).await;
        let again = self.read_logs(&id, false).await?;
        self.remove(&id).await?;
        Ok((follow, again))
    }

    /// Start events of our containers from now on: job id and time in seconds since 1970.
    pub(crate) fn starts(&self, label: &'static str) -> impl futures::Stream<Item = (String, f64)> + use<> {
        let filters =
            HashMap::from([("type", vec!["container"]), ("event", vec!["start"]), ("label", vec![label])]);
        let options = EventsOptionsBuilder::new().filters(&filters).build();
        self.docker.events(Some(options)).filter_map(move |event| async move {
            let event = event.ok()?;
            let at = event.time_nano? as f64 / 1e9;
            Some((event.actor?.attributes?.get(label)?.clone(), at))
        })
    }

    async fn create(&self, command: &[&str], settings: &HostConfig) -> anyhow::Result<String> {
        let body = ContainerCreateBody {
            image: Some(self.image.clone()),
            cmd: Some(command.iter().map(ToString::to_string).collect()),
            host_config: Some(settings.clone()),
            ..Default::default()
        };
        Ok(self.docker.create_container(None::<CreateContainerOptions>, body).await?.id)
    }

    async fn read_logs(&self, id: &str, follow: bool) -> anyhow::Result<f64> {
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).follow(follow).build();
        let (before, mut bytes) = (Instant::now(), 0_usize);
        let mut chunks = self.docker.logs(id, Some(options));
        while let Some(chunk) = chunks.next().await {
            bytes += chunk?.into_bytes().len();
        }
        Ok(bytes as f64 / before.elapsed().as_secs_f64())
    }

    async fn ended(&self, id: &str) {
        let mut wait = self.docker.wait_container(id, None::<WaitContainerOptions>);
        // A code that is not 0 comes as an error; the end is all that counts here.
        while wait.next().await.is_some() {}
    }

    async fn remove(&self, id: &str) -> anyhow::Result<()> {
        let options = RemoveContainerOptionsBuilder::new().force(true).build();
        Ok(self.docker.remove_container(id, Some(options)).await?)
    }
}
