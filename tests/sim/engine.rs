//! One machine's container engine: scripted containers, an engine that goes away, loses answers or is restarted with
//! all it ran. It outlives the agent's process, as a real one does.

use crate::weather::{Fate, Weather};
use async_trait::async_trait;
use longshore_agent::runtime::{
    Attached, ContainerId, ContainerSpec, Counts, EngineInfo, Error, Exit, Image, ImageId, ImageRequest,
    Known, Output, Progress, Removal, Runtime, Sample, fake::Fake,
};
use longshore_common::{
    clock::{Moment, Timestamp},
    ids::JobId,
};
use std::{
    collections::{BTreeSet, HashSet},
    future::Future,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::sleep};

#[derive(Debug)]
pub(crate) struct Engine {
    inner: Fake,
    weather: Weather,
    away: watch::Sender<bool>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    started: HashSet<ContainerId>,
    starts: u64,
    /// Ended with the engine.
    taken_along: HashSet<ContainerId>,
}

impl Engine {
    pub(crate) fn new(weather: Weather) -> Self {
        Self { inner: Fake::new(), weather, away: watch::Sender::new(false), seen: Mutex::default() }
    }

    pub(crate) fn trouble(&self, trouble: f64) {
        self.weather.set(trouble);
    }

    pub(crate) fn away(&self, away: bool) {
        self.away.send_replace(away);
    }

    pub(crate) fn is_well(&self) -> bool {
        !*self.away.borrow() && self.weather.is_fine()
    }

    /// Everything it runs ends with it.
    pub(crate) async fn crash(&self) {
        for known in self.known().await {
            if known.running {
                self.seen().taken_along.insert(known.container.clone());
                drop(self.inner.stop(&known.container, Duration::ZERO).await);
            }
        }
    }

    /// Jobs of containers that run.
    pub(crate) async fn running(&self) -> Vec<JobId> {
        let known = self.known().await;
        let seen = self.seen();
        let runs = |known: &Known| known.running && seen.started.contains(&known.container);
        known.into_iter().filter(runs).map(|known| known.attempt.job).collect()
    }

    pub(crate) async fn known(&self) -> Vec<Known> {
        self.inner.list().await.expect("the scripted engine lists")
    }

    pub(crate) fn starts(&self) -> u64 {
        self.seen().starts
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call, if the engine is there and nothing happens to it.
    async fn call<T>(
        &self,
        kind: &'static str,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let lost = || Error::Unreachable("simulated".to_owned());
        if *self.away.borrow() {
            return Err(lost());
        }
        match self.weather.fate(kind) {
            // The agent makes each call once at a time, so that nothing arrives twice.
            Fate::Fine | Fate::Twice(_) => call.await,
            Fate::Lost => Err(lost()),
            Fate::AnswerLost => {
                drop(call.await);
                Err(lost())
            }
            Fate::Late(pause) => {
                sleep(pause).await;
                call.await
            }
            Fate::AnswerLate(pause) => {
                let answer = call.await;
                sleep(pause).await;
                answer
            }
        }
    }

    /// A call that lasts; it breaks when the engine goes.
    async fn long<T>(
        &self,
        kind: &'static str,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let mut away = self.away.subscribe();
        tokio::select! {
            biased;
            _ = away.wait_for(|away| *away) => Err(Error::Unreachable("simulated".to_owned())),
            answer = self.call(kind, call) => answer,
        }
    }
}

#[async_trait]
impl Runtime for Engine {
    async fn describe(&self) -> Result<EngineInfo, Error> {
        self.call("describe", self.inner.describe()).await
    }

    async fn ensure_image(&self, request: &ImageRequest, progress: &Progress) -> Result<Image, Error> {
        self.long("image", self.inner.ensure_image(request, progress)).await
    }

    async fn remove_image(&self, image: &ImageId, names: &BTreeSet<String>) -> Result<Removal, Error> {
        self.call("remove_image", self.inner.remove_image(image, names)).await
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<ContainerId, Error> {
        self.call("create", self.inner.create(spec)).await
    }

    async fn start(&self, container: &ContainerId) -> Result<Output, Error> {
        self.call("start", async {
            let output = self.inner.start(container).await?;
            let mut seen = self.seen();
            seen.starts += 1;
            seen.started.insert(container.clone());
            Ok(output)
        })
        .await
    }

    async fn attach(
        &self,
        container: &ContainerId,
        counts: Counts,
        began: Option<Moment>,
    ) -> Result<Attached, Error> {
        self.call("attach", async {
            let attached = self.inner.attach(container, counts, began).await?;
            let mut seen = self.seen();
            if seen.started.insert(container.clone()) {
                seen.starts += 1;
            }
            Ok(attached)
        })
        .await
    }

    async fn runs_since(&self, container: &ContainerId) -> Result<Option<Timestamp>, Error> {
        self.call("since", self.inner.runs_since(container)).await
    }

    async fn wait(&self, container: &ContainerId) -> Result<Exit, Error> {
        let mut exit = self.long("wait", self.inner.wait(container)).await?;
        exit.engine_restarted |= self.seen().taken_along.contains(container);
        Ok(exit)
    }

    async fn stop(&self, container: &ContainerId, grace: Duration) -> Result<(), Error> {
        self.long("stop", self.inner.stop(container, grace)).await
    }

    async fn usage(&self, container: &ContainerId) -> Result<Sample, Error> {
        self.call("usage", self.inner.usage(container)).await
    }

    async fn remove(&self, container: &ContainerId) -> Result<(), Error> {
        self.call("remove", self.inner.remove(container)).await
    }

    async fn list(&self) -> Result<Vec<Known>, Error> {
        self.call("list", self.inner.list()).await
    }
}
