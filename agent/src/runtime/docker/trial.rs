//! Makes, starts and removes a container of the agent's own while the engine seems to hang: an engine that was only
//! slow, or hangs for one container alone, answers this one, and is known to be well again.

use super::{Docker, calls::Calls, calls::Kind, engine::Client, labels, pause, probe};
use crate::runtime::Error;
use bollard::{
    errors::Error as DockerError,
    models::ContainerCreateBody,
    query_parameters::{
        CreateContainerOptions, RemoveContainerOptions, RemoveImageOptions, StartContainerOptions,
    },
};
use longshore_common::{job::Outcome, tasks};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

const PAUSE: Duration = Duration::from_secs(10);

/// One at a time.
#[derive(Debug, Default)]
pub(super) struct Trial(Arc<AtomicBool>);

impl Docker {
    /// Begins a trial, unless one is under way.
    pub(super) async fn try_out(&self) {
        let Ok(client) = self.engine.client().await else { return };
        if self.trial.0.swap(true, Ordering::AcqRel) {
            return;
        }
        let (calls, running) = (Arc::clone(&self.calls), Arc::clone(&self.trial.0));
        let (agent, network) = (self.agent, self.networks.ready_name().unwrap_or("none"));
        let tail = labels::tail(&agent.to_string()).to_owned();
        let body = pause::container(agent, &format!("longshore-trial:{tail}"), network);
        tasks::spawn("engine.trial", async move {
            if let Err(error) = run(&calls, &client, body, &format!("longshore-{tail}-trial")).await {
                tracing::debug!(%error, "the engine is not well yet");
            }
            tokio::time::sleep(PAUSE).await;
            running.store(false, Ordering::Release);
        });
    }
}

async fn run(calls: &Calls, client: &Client, body: ContainerCreateBody, name: &str) -> Result<(), Error> {
    let image = body.image.clone().unwrap_or_default();
    probe::import(client, &image).await.map_err(|detail| Error::ends(Outcome::RuntimeError, detail))?;
    remove(calls, client, name).await?;
    let options = CreateContainerOptions { name: Some(name.to_owned()), ..Default::default() };
    let create = async { client.api.create_container(Some(options), body).await.map(drop).map_err(failed) };
    calls.watched(Kind::Create, client, None, create).await?;
    let start =
        async { client.api.start_container(name, None::<StartContainerOptions>).await.map_err(failed) };
    let started = calls.watched(Kind::Start, client, None, start).await;
    remove(calls, client, name).await?;
    if let Err(error) = client.api.remove_image(&image, None::<RemoveImageOptions>, None).await {
        tracing::debug!(%error, "the trial's image stays");
    }
    started
}

async fn remove(calls: &Calls, client: &Client, name: &str) -> Result<(), Error> {
    let options = RemoveContainerOptions { force: true, v: true, link: false };
    let remove = async {
        match client.api.remove_container(name, Some(options)).await {
            Err(error) if super::engine::status(&error) != Some(404) => Err(failed(error)),
            _ => Ok(()),
        }
    };
    calls.watched(Kind::Remove, client, None, remove).await
}

fn failed(error: DockerError) -> Error {
    if super::engine::is_unreachable(&error) {
        return Error::Unreachable(super::engine::message(&error));
    }
    Error::ends(Outcome::RuntimeError, super::engine::message(&error))
}
