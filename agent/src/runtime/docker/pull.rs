//! Pulls of images: concurrent wishes for one image are one pull, which lives as long as somebody waits for it.

use super::{
    engine::{Engine, is_unreachable, message, status},
    login,
    reference::Reference,
};
use crate::{
    runtime::{Error, PullConfig, config::Config},
    secrets::RegistryLogin,
};
use bollard::{errors::Error as DockerError, models::CreateImageInfo, query_parameters::CreateImageOptions};
use futures::StreamExt as _;
use longshore_common::{job::Outcome, tasks};
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// Lines of progress of one pull come no faster than this.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// How far a pull is.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// `pulling app:2  45 of 120 MiB`
    pub(super) line: String,
    /// The registry has said something.
    pub(super) answered: bool,
    pub(super) done: Option<Result<(), Error>>,
}

/// Image, user and digest of the password.
type Key = (String, Option<(String, [u8; 32])>);

/// The pulls in progress.
#[derive(Debug)]
pub(super) struct Pulls {
    engine: Arc<Engine>,
    config: PullConfig,
    /// By image, and by the project's credentials: one project's wait is not ended by what another may.
    running: Mutex<HashMap<Key, watch::Sender<State>>>,
}

impl Pulls {
    pub(super) fn new(engine: Arc<Engine>, config: PullConfig) -> Self {
        Self { engine, config, running: Mutex::default() }
    }

    /// Joins the pull of this image, or begins it. It goes on while a receiver lives.
    pub(super) fn pull(
        self: &Arc<Self>,
        image: &str,
        project: Option<&RegistryLogin>,
        config: &Config,
    ) -> watch::Receiver<State> {
        let digest =
            |login: &RegistryLogin| (login.username.clone(), Sha256::digest(login.password.bytes()).into());
        let key: Key = (image.to_owned(), project.map(digest));
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = running.get(&key) {
            return state.subscribe();
        }
        let (state, receiver) = watch::channel(State::default());
        running.insert(key.clone(), state.clone());
        drop(running);
        let (project, config) = (project.cloned(), config.clone());
        tasks::spawn("image.pull", Arc::clone(self).run(key, project, config, state));
        receiver
    }

    async fn run(
        self: Arc<Self>,
        key: Key,
        project: Option<RegistryLogin>,
        config: Config,
        state: watch::Sender<State>,
    ) {
        let image = &key.0;
        let mut pull = std::pin::pin!(async {
            let registry = Reference::parse(image).registry();
            let login = login::of(registry, project.as_ref(), &config).await;
            self.transfer(image, &login, &state).await
        });
        let result = loop {
            tokio::select! {
                result = &mut pull => break Some(result),
                () = state.closed() => if self.abandon(&key, &state) { break None },
            }
        };
        if let Some(result) = result {
            self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            state.send_modify(|state| state.done = Some(result));
        }
    }

    /// Takes the pull off the list unless somebody has joined it in this instant.
    fn abandon(&self, key: &Key, state: &watch::Sender<State>) -> bool {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let nobody = state.receiver_count() == 0;
        if nobody {
            running.remove(key);
        }
        nobody
    }

    async fn transfer(
        &self,
        image: &str,
        login: &login::Found,
        state: &watch::Sender<State>,
    ) -> Result<(), Error> {
        let client = self.engine.client().await?;
        let (from, tag) = Reference::parse(image).to_pull();
        let options = CreateImageOptions { from_image: Some(from), tag: Some(tag), ..Default::default() };
        let mut events =
            std::pin::pin!(client.api.create_image(Some(options), None, login.credentials.clone()));
        let mut layers = Layers::default();
        let mut said = Instant::now();
        loop {
            let event = match tokio::time::timeout(self.config.stall(), events.next()).await {
                Ok(Some(Ok(event))) => event,
                Ok(Some(Err(error))) => return Err(self.read(image, login, &error)),
                Ok(None) => return Ok(()),
                Err(_) => {
                    let seconds = self.config.stall_seconds;
                    let detail = format!("pull of {image}: no progress for {seconds} s");
                    return Err(Error::ends(Outcome::RegistryUnavailable, detail));
                }
            };
            layers.note(&event);
            let first = !state.borrow().answered;
            if first || said.elapsed() >= LINE_EVERY {
                said = Instant::now();
                let line = layers.line(image);
                state.send_modify(|state| {
                    state.answered = true;
                    state.line = line;
                });
            }
        }
    }

    pub(super) fn read(&self, image: &str, login: &login::Found, error: &DockerError) -> Error {
        if is_unreachable(error) {
            return self.engine.failed("pull", error);
        }
        let text = message(error);
        let outcome = refusal(status(error), &text);
        let detail = match outcome {
            Outcome::RegistryAuth => {
                let host = Reference::parse(image).registry();
                format!("{host} does not give {image} to {}: {text}", login.story())
            }
            _ => format!("pull of {image}: {text}"),
        };
        Error::ends(outcome, detail)
    }
}

/// What the registry's refusal means. The engine passes most of them on as 500 and text.
fn refusal(status: Option<u16>, text: &str) -> Outcome {
    let text = text.to_ascii_lowercase();
    let said = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    if said(&["no matching manifest for", "does not match the specified platform"]) {
        return Outcome::WrongPlatform;
    }
    if said(&["no space left on device", "failed to register layer"]) {
        return Outcome::RuntimeError;
    }
    // Docker Hub says both of a repository that does not exist.
    if said(&["repository does not exist", "manifest unknown", "name unknown", "not found"]) {
        return Outcome::ImageNotFound;
    }
    let auth =
        ["unauthorized", "no basic auth", "authentication required", "access denied", "forbidden", "denied:"];
    if matches!(status, Some(401 | 403)) || said(&auth) {
        return Outcome::RegistryAuth;
    }
    match status {
        Some(404) => Outcome::ImageNotFound,
        Some(400) => Outcome::ImageNotFound,
        _ => Outcome::RegistryUnavailable,
    }
}

/// Bytes of the layers on their way.
#[derive(Debug, Default)]
struct Layers(HashMap<String, (u64, u64)>);

impl Layers {
    fn note(&mut self, event: &CreateImageInfo) {
        let Some(id) = &event.id else { return };
        match event.status.as_deref() {
            Some("Downloading") => {
                let detail = event.progress_detail.as_ref();
                let number =
                    |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).unwrap_or(0);
                let current = number(detail.and_then(|detail| detail.current));
                let total = number(detail.and_then(|detail| detail.total));
                self.0.insert(id.clone(), (current, total.max(current)));
            }
            Some("Download complete" | "Pull complete" | "Verifying Checksum") => {
                self.0.entry(id.clone()).and_modify(|(current, total)| *current = *total);
            }
            _ => {}
        }
    }

    fn line(&self, image: &str) -> String {
        let sum = |pick: fn(&(u64, u64)) -> u64| self.0.values().map(pick).sum::<u64>() >> 20;
        match (sum(|layer| layer.0), sum(|layer| layer.1)) {
            (_, 0) => format!("pulling {image}"),
            (current, total) => format!("pulling {image}  {current} of {total} MiB"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::ProgressDetail;

    #[test]
    fn a_refusal_is_named_by_its_cause() {
        let cases = [
            (
                Some(404),
                "manifest for localhost:5000/a:1 not found: manifest unknown",
                Outcome::ImageNotFound,
            ),
            (
                Some(404),
                "pull access denied for nope, repository does not exist or may require 'docker login'",
                Outcome::ImageNotFound,
            ),
            (
                Some(500),
                "Get \"http://localhost:5000/v2/a/manifests/1\": no basic auth credentials",
                Outcome::RegistryAuth,
            ),
            (Some(500), "unauthorized: authentication required", Outcome::RegistryAuth),
            (
                Some(500),
                "Get \"https://r/v2/\": dial tcp: lookup r: no such host",
                Outcome::RegistryUnavailable,
            ),
            (Some(500), "dial tcp 127.0.0.1:5000: connect: connection refused", Outcome::RegistryUnavailable),
            (None, "received unexpected HTTP status: 503 Service Unavailable", Outcome::RegistryUnavailable),
            (
                Some(404),
                "no matching manifest for linux/amd64 in the manifest list entries",
                Outcome::WrongPlatform,
            ),
            (None, "failed to register layer: no space left on device", Outcome::RuntimeError),
            (Some(400), "invalid reference format", Outcome::ImageNotFound),
        ];
        for (status, text, outcome) in cases {
            assert_eq!(refusal(status, text), outcome, "{text}");
        }
    }

    #[test]
    fn layers_add_up() {
        let event = |id: &str, status: &str, current, total| CreateImageInfo {
            id: Some(id.to_owned()),
            status: Some(status.to_owned()),
            progress_detail: Some(ProgressDetail { current, total }),
            ..Default::default()
        };
        let mut layers = Layers::default();
        layers.note(&event("2", "Pulling from app", None, None));
        assert_eq!(layers.line("app:2"), "pulling app:2");
        layers.note(&event("a", "Downloading", Some(5 << 20), Some(80 << 20)));
        layers.note(&event("b", "Downloading", Some(1 << 20), Some(40 << 20)));
        layers.note(&event("b", "Download complete", None, None));
        assert_eq!(layers.line("app:2"), "pulling app:2  45 of 120 MiB");
    }
}
