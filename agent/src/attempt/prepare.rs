//! Before the main process runs: image and inputs at once, the intent in the journal, then create and start.

use super::{Attempt, Cause, Cut, MOMENT, Tools, engine_backoff, secrets, stop::StopSignal};
use crate::{
    contracts,
    images::InUse,
    inputs, journal,
    logs::LogSink,
    runtime::{
        self, ContainerId, ContainerSpec, Image, ImageId, ImageRequest, Output, Progress, Runtime, Scratch,
        SecretMounts,
    },
    secrets::RegistryLogin,
    shares::Pins,
};
use longshore_common::{
    agent::Grant,
    job::{JobState, Outcome},
};
use std::{collections::BTreeMap, future::Future, path::Path, path::PathBuf, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

/// Lines of progress that may wait for the log; more are dropped.
const PROGRESS_LINES: usize = 32;

/// When image, inputs and container must be ready.
#[derive(Clone, Copy, Debug)]
pub(super) struct PrepareDeadline {
    pub(super) at: Instant,
    pub(super) length: Duration,
}

impl Attempt {
    pub(super) fn prepare_deadline(&self) -> PrepareDeadline {
        let length = self.grant.spec.deadlines.prepare;
        PrepareDeadline { at: super::deadlines::after(Instant::now(), length), length }
    }

    pub(super) async fn fetch_secrets(&mut self, deadline: &PrepareDeadline) -> Result<(), Cut> {
        let shared = std::sync::Arc::clone(&self.shared);
        let grant = std::sync::Arc::clone(&self.grant);
        let fetching = secrets::fetch(&*shared.tools.controller, &grant);
        let fetched = until(&mut self.signal, deadline, fetching).await??;
        self.learn(fetched).await;
        Ok(())
    }

    /// Everything the container needs, ready.
    pub(super) async fn prepare(&mut self, deadline: &PrepareDeadline) -> Result<ContainerSpec, Cut> {
        self.holding.phase(JobState::Preparing);
        let dir = self.dir();
        for line in self.tools().walls.told(&self.grant.spec) {
            self.log.system(line).await;
        }
        let (sender, lines) = mpsc::channel(PROGRESS_LINES);
        let progress = Progress::new(sender);
        let shared = std::sync::Arc::clone(&self.shared);
        let grant = std::sync::Arc::clone(&self.grant);
        let (log, intent, login) = (self.log.clone(), self.intent(), self.secrets.login.clone());
        let getting_ready = told(&log, lines, ready(&shared.tools, &grant, login, &dir, &progress));
        // A stop does not cut the write: what lands after the attempt is forgotten stays for ever.
        let (ready, journalled) = tokio::join!(
            until(&mut self.signal, deadline, getting_ready),
            shared.tools.journal.intend(intent)
        );
        let ((image, in_use), inputs) = ready??;
        // Told while the write went on: that is why the attempt ends, whatever became of the write.
        if let Some(cause) = self.signal.said() {
            return Err(cause.into());
        }
        journalled?;
        self.image = Some(in_use);
        self.note_digest(image.digest.clone());
        let secrets = self.secret_mounts(&dir, &image.user).await?;
        let shares = self.pin_shares(&dir).await?;
        let caches = self.open_caches().await?;
        Ok(ContainerSpec { secrets, shares, caches, ..self.container_spec(image.id, inputs, &dir) })
    }

    /// Creates and starts the container. On a stop the call under way gets a moment, for what it makes must be removed;
    /// an engine that hangs does not keep the attempt, and what it makes later is swept.
    pub(super) async fn start(
        &mut self,
        spec: &mut ContainerSpec,
        deadline: &PrepareDeadline,
    ) -> Result<Output, Cut> {
        let shared = std::sync::Arc::clone(&self.shared);
        let mut backoff = engine_backoff();
        let mut pulled_again = false;
        loop {
            if let Some(cause) = self.signal.said() {
                return Err(cause.into());
            }
            let container = self.container.clone();
            let (done, stopped) = {
                let call = step(&*shared.tools.runtime, spec, container.as_ref());
                tokio::pin!(call);
                match until(&mut self.signal, deadline, &mut call).await {
                    Ok(done) => (done, None),
                    Err(cause) => match timeout(MOMENT, call).await {
                        Ok(done) => (done, Some(cause)),
                        Err(_) => return Err(cause.into()),
                    },
                }
            };
            match (done, stopped) {
                // It runs: whoever follows it carries out the stop.
                (Ok(Step::Started(output)), _) => return Ok(output),
                (Ok(Step::Made(container)), stopped) => {
                    self.container = Some(container);
                    if let Some(cause) = stopped {
                        return Err(cause.into());
                    }
                }
                (Err(_), Some(cause)) => return Err(cause.into()),
                (Err(runtime::Error::ImageGone(detail)), None) if !pulled_again => {
                    pulled_again = true;
                    spec.image = self.pull_again(&detail, deadline).await?;
                }
                (Err(error), None) => {
                    self.bear(error).await?;
                    until(&mut self.signal, deadline, backoff.wait()).await?;
                }
            }
        }
    }

    /// Another agent on this engine, or a person, keeps its images tidy too.
    async fn pull_again(&mut self, why: &str, deadline: &PrepareDeadline) -> Result<ImageId, Cut> {
        let (shared, grant) = (std::sync::Arc::clone(&self.shared), std::sync::Arc::clone(&self.grant));
        let log = self.log.clone();
        log.system(&format!("{why}; bringing it again")).await;
        let (sender, lines) = mpsc::channel(PROGRESS_LINES);
        let progress = Progress::new(sender);
        let work = told(&log, lines, image(&shared.tools, &grant, self.secrets.login.clone(), &progress));
        let (image, in_use) = until(&mut self.signal, deadline, work).await??;
        self.image = Some(in_use);
        self.note_digest(image.digest);
        Ok(image.id)
    }

    fn note_digest(&mut self, digest: Option<String>) {
        self.digest.clone_from(&digest);
        self.holding.digest(digest);
    }

    fn container_spec(&self, image: ImageId, inputs: BTreeMap<String, PathBuf>, dir: &Path) -> ContainerSpec {
        let Grant { attempt, short_id, spec, gpus, .. } = &*self.grant;
        let walls = self.tools().walls;
        ContainerSpec {
            attempt: *attempt,
            short_id: short_id.clone(),
            cluster: self.cluster,
            agent: self.tools().agent,
            image,
            image_name: spec.image.clone(),
            entrypoint: spec.entrypoint.clone(),
            command: spec.command.clone(),
            workdir: spec.workdir.clone(),
            user: spec.user.clone(),
            env: contracts::env(&self.grant, &self.tools().container_env),
            resources: spec.resources.clone(),
            gpus: gpus.clone(),
            network: walls.network(spec),
            security: walls.security(spec),
            stop_grace: spec.deadlines.stop_grace,
            scratch: Scratch::within(dir, inputs),
            secrets: SecretMounts::default(),
            shares: Pins::new(),
            caches: BTreeMap::new(),
            files_in_memory: spec.files_in_memory(),
        }
    }
}

/// What the next call to the engine brings.
enum Step {
    Made(ContainerId),
    Started(Output),
}

async fn step(
    runtime: &dyn Runtime,
    spec: &ContainerSpec,
    container: Option<&ContainerId>,
) -> Result<Step, runtime::Error> {
    match container {
        None => runtime.create(spec).await.map(Step::Made),
        Some(container) => runtime.start(container).await.map(Step::Started),
    }
}

/// Does the work, and writes into the log what it says meanwhile.
async fn told<T>(log: &LogSink, mut lines: mpsc::Receiver<String>, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    let done = loop {
        tokio::select! {
            biased;
            Some(line) = lines.recv() => log.system(&line).await,
            done = &mut work => break done,
        }
    };
    while let Ok(line) = lines.try_recv() {
        log.system(&line).await;
    }
    done
}

/// Image and inputs at the same time.
async fn ready(
    tools: &Tools,
    grant: &Grant,
    login: Option<RegistryLogin>,
    dir: &Path,
    progress: &Progress,
) -> Result<((Image, InUse), BTreeMap<String, PathBuf>), Cut> {
    tokio::try_join!(image(tools, grant, login, progress), inputs(tools, grant, dir, progress))
}

async fn image(
    tools: &Tools,
    grant: &Grant,
    login: Option<RegistryLogin>,
    progress: &Progress,
) -> Result<(Image, InUse), Cut> {
    let (image, policy, project) = (grant.spec.image.clone(), grant.spec.pull, grant.project.clone());
    let request = ImageRequest { image, policy, project, login };
    let mut backoff = engine_backoff();
    let mut told = false;
    loop {
        match tools.images.ensure(&request, progress).await {
            Ok((image, _)) if grant.spec.pin && image.digest.is_none() => {
                let detail = format!(
                    "{} cannot be pinned: no registry has given this image a digest (it was built on this node, or \
                     tagged by hand); push it and run it by that name, or leave out --pin",
                    request.image
                );
                return Err(Cut::Failed(Outcome::ImageNotFound, detail));
            }
            Ok(image) => return Ok(image),
            Err(runtime::Error::Ends { outcome, detail }) => return Err(Cut::Failed(outcome, detail)),
            Err(runtime::Error::ImageGone(detail)) => {
                return Err(Cut::Failed(Outcome::RuntimeError, detail));
            }
            Err(runtime::Error::Stuck(detail)) => return Err(Cut::Stuck(detail)),
            Err(away @ runtime::Error::Unreachable(_)) => {
                tools.engine_away.notify_one();
                if !std::mem::replace(&mut told, true) {
                    progress.say(format!("{away}; waiting for it"));
                }
                backoff.wait().await;
            }
        }
    }
}

async fn inputs(
    tools: &Tools,
    grant: &Grant,
    dir: &Path,
    progress: &Progress,
) -> Result<BTreeMap<String, PathBuf>, Cut> {
    if grant.spec.inputs.is_empty() {
        return Ok(BTreeMap::new());
    }
    let limit = grant.spec.resources.scratch_bytes;
    let dir = dir.join("in");
    let fetching = tools.inputs.fetch(grant.attempt, &grant.spec.inputs, &dir, limit, progress);
    Box::pin(fetching).await.map_err(|error: inputs::Error| match error.outcome() {
        Some(outcome) => Cut::Failed(outcome, error.to_string()),
        None => Cut::Stopped(Cause::Revoked),
    })
}

impl From<journal::Error> for Cut {
    fn from(error: journal::Error) -> Self {
        Self::Failed(Outcome::RuntimeError, error.to_string())
    }
}

/// Whichever comes first: the end of `work`, somebody's stop, or the prepare deadline.
async fn until<T>(
    signal: &mut StopSignal,
    deadline: &PrepareDeadline,
    work: impl Future<Output = T>,
) -> Result<T, Cause> {
    tokio::select! {
        biased;
        cause = signal.beyond(None) => Err(cause),
        done = work => Ok(done),
        () = tokio::time::sleep_until(deadline.at) => Err(Cause::PrepareDeadline(deadline.length)),
    }
}
