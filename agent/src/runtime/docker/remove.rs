//! Removes containers with everything they wrote, however they wrote it. Decides nothing about jobs.

use super::{
    Docker,
    calls::Kind,
    container::blocking,
    engine::{Client, Engine, status},
    labels, scratch,
};
use crate::{
    runtime::{ContainerId, Error},
    tree,
};
use bollard::{
    errors::Error as DockerError,
    query_parameters::{InspectContainerOptions, RemoveContainerOptions},
};
use longshore_common::{job::Outcome, retry::Backoff};
use std::{
    path::PathBuf,
    sync::{Arc, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

impl Docker {
    pub(super) async fn remove_container(&self, id: &ContainerId) -> Result<(), Error> {
        let client = self.engine.client().await?;
        let folders = match self.folders(id) {
            folders if folders.is_empty() => self.labelled_folders(id).await?,
            folders => folders,
        };
        let live = self.containers.get(id);
        let call = remove_fully(Arc::clone(&self.engine), client.clone(), id.clone());
        self.calls.ask(&live.removing, Kind::Remove, &client, call).await?;
        self.containers.forget(id);
        blocking(move || folders.iter().try_for_each(|folder| scratch::remove(folder))).await.map_err(
            |error| Error::ends(Outcome::RuntimeError, format!("remove the scratch folders: {error}")),
        )
    }

    fn folders(&self, id: &ContainerId) -> Vec<PathBuf> {
        self.containers.get(id).scratch.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// After a restart of the agent: the folders that the labels name, if they belong to this agent.
    async fn labelled_folders(&self, id: &ContainerId) -> Result<Vec<PathBuf>, Error> {
        let client = self.engine.client().await?;
        match self.engine.look(client.api.inspect_container(&id.0, None::<InspectContainerOptions>)).await? {
            Ok(found) => {
                let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
                let ours = labels.get(labels::AGENT) == Some(&self.agent.to_string());
                Ok(if ours { labels::scratch(&labels) } else { Vec::new() })
            }
            Err(error) if status(&error) == Some(404) => Ok(Vec::new()),
            Err(error) => Err(self.engine.failed("look at the container", &error)),
        }
    }
}

async fn remove_fully(engine: Arc<Engine>, client: Client, id: ContainerId) -> Result<(), Error> {
    let mut removed = remove(&client, &id, REMOVED_ELSEWHERE).await;
    if removed.as_ref().is_err_and(|error| status(error) == Some(500))
        && let Some(layer) = layer_of_ended(&client, &id).await
    {
        // The engine opens every level of a tree at once, and runs out of files in a deep one.
        match blocking(move || tree::remove(&layer)).await {
            Ok(()) => removed = remove(&client, &id, REMOVED_ELSEWHERE).await,
            Err(error) => tracing::warn!(container = %id.0, %error, "its layer cannot be emptied either"),
        }
    }
    removed.map_err(|error| engine.failed("remove the container", &error))
}

/// Another removal of the same container that takes longer is for the next try.
const REMOVED_ELSEWHERE: Duration = Duration::from_secs(20);

/// Returns when it is gone: while another call removes it, or tries to, it may run.
async fn remove(client: &Client, id: &ContainerId, patience: Duration) -> Result<(), DockerError> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    let began = Instant::now();
    loop {
        let options = RemoveContainerOptions { force: true, v: true, link: false };
        match client.api.remove_container(&id.0, Some(options)).await {
            Err(error) if status(&error) == Some(404) => return Ok(()),
            Err(error) if status(&error) == Some(409) && began.elapsed() < patience => {
                backoff.wait().await;
            }
            done => return done,
        }
    }
}

/// The writable layer of a container that does not run any more.
async fn layer_of_ended(client: &Client, id: &ContainerId) -> Option<PathBuf> {
    let found = client.api.inspect_container(&id.0, None::<InspectContainerOptions>).await.ok()?;
    if found.state?.running != Some(false) {
        return None;
    }
    found.graph_driver?.data.get("UpperDir").map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{Config, docker::play::Process};
    use longshore_common::ids::AgentId;
    use std::fs;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn a_container_whose_tree_is_too_deep_for_the_engine_is_removed_all_the_same() {
        let home = tempfile::tempdir().expect("a folder");
        let layer = home.path().join("diff");
        fs::create_dir(&layer).expect("made");
        drop(tree::tests::nest(&layer, 5_000));
        let removals = Arc::new(AtomicUsize::new(0));
        let (upper, count) = (layer.clone(), Arc::clone(&removals));
        let inspected = format!(
            r#"{{"State":{{"Running":false}},"GraphDriver":{{"Name":"overlay2","Data":{{"UpperDir":"{}"}}}}}}"#,
            layer.display()
        );
        let process = Process::start(&home.path().join("engine.sock"), move |method, path| {
            if method != "DELETE" {
                return path.ends_with("/json").then(|| (200, inspected.clone()));
            }
            count.fetch_add(1, Ordering::AcqRel);
            let there = upper.exists();
            Some(if there {
                (500, r#"{"message":"too many open files"}"#.to_owned())
            } else {
                (204, String::new())
            })
        });
        let host = format!("unix://{}/engine.sock", home.path().display());
        let docker = Docker::new(Config { host: Some(host), ..Config::default() }, AgentId::new());
        docker.remove_container(&ContainerId("c1".to_owned())).await.expect("removed");
        process.end().await;
        assert_eq!(removals.load(Ordering::Acquire), 2);
        assert!(!layer.exists());
    }

    #[tokio::test]
    async fn a_removal_that_another_never_ends_is_given_up() {
        let home = tempfile::tempdir().expect("a folder");
        let socket = home.path().join("engine.sock");
        let process = Process::start(&socket, |method, _| {
            let busy = r#"{"message":"removal of container c1 is already in progress"}"#;
            (method == "DELETE").then(|| (409, busy.to_owned()))
        });
        let host = format!("unix://{}", socket.display());
        let docker = Docker::new(Config { host: Some(host), ..Config::default() }, AgentId::new());
        let client = docker.engine.client().await.expect("connected");
        let error = remove(&client, &ContainerId("c1".to_owned()), Duration::from_millis(250)).await;
        assert_eq!(status(&error.expect_err("never removed")), Some(409));
        process.end().await;
    }
}
