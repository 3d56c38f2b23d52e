//! What the tests start and how they look at it.

use crate::{
    AgentConfig, OnShutdown, Parts, Running,
    attempt::Held,
    home::Home,
    host::{Disk, Facts, Host, Reading},
    journal::Journal,
    link::{Event, Linked, Reporter, fake::FakeController},
    runtime::{
        Attached, ContainerId, ContainerSpec, Counts, EngineInfo, Error, Exit, Image, ImageId, ImageRequest,
        Known, Output, Progress, Removal, Runtime, Sample, fake::Fake,
    },
};
use async_trait::async_trait;
use longshore_common::{
    agent::{Grant, HeldAttempt},
    clock::{Moment, Timestamp},
    ids::{AttemptRef, Epoch, JobId, ShortId},
    job::{JobSpec, JobState, Outcome},
    shutdown::Shutdown,
};
use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};

pub(super) const CORES: u32 = 8;
pub(super) const BOOT: &str = "boot-1";

pub(super) struct Rig {
    pub(super) controller: Arc<FakeController>,
    pub(super) engine: Arc<Flaky>,
    pub(super) host: Arc<Bench>,
    pub(super) running: Running,
    pub(super) reporter: Arc<dyn Reporter>,
    pub(super) dir: tempfile::TempDir,
    on_shutdown: OnShutdown,
}

/// Between two processes of the agent: what stays.
pub(super) struct Away {
    pub(super) controller: Arc<FakeController>,
    pub(super) engine: Arc<Flaky>,
    dir: tempfile::TempDir,
    on_shutdown: OnShutdown,
}

impl Away {
    pub(super) fn journal(&self) -> Journal {
        Journal::open(&self.dir.path().join("journal")).unwrap()
    }

    /// As if this much time had gone by since jobs used the images.
    pub(super) fn age_images(&self, by: Duration) {
        let path = self.dir.path().join("images.json");
        let mut book: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        for image in book["pulled"].as_object_mut().unwrap().values_mut() {
            let used = Timestamp::from_micros(image["last_used"].as_i64().unwrap());
            image["last_used"] = used.minus(by).as_micros().into();
        }
        std::fs::write(path, book.to_string()).unwrap();
    }

    /// The next process.
    pub(super) async fn again(self) -> Rig {
        let events = self.controller.link_again();
        self.link(events).await
    }

    /// The next process. Its link is not up yet; the rest of the controller answers.
    pub(super) async fn again_without_a_link(self) -> Rig {
        let mut events = self.controller.link_again();
        events.recv().await.expect("the first says that it is up");
        self.link(events).await
    }

    async fn link(self, events: mpsc::Receiver<Event>) -> Rig {
        let Self { controller, engine, dir, on_shutdown } = self;
        let slot: Arc<Mutex<Option<Arc<dyn Reporter>>>> = Arc::default();
        let host = Arc::new(Bench::default());
        let parts = Parts {
            runtime: Arc::clone(&engine) as Arc<dyn Runtime>,
            host: Arc::clone(&host) as Arc<dyn Host>,
            connect: Box::new({
                let (controller, slot) = (Arc::clone(&controller), Arc::clone(&slot));
                move |_, reporter, _| {
                    *slot.lock().unwrap() = Some(reporter);
                    Ok(Linked { bell: Arc::clone(&controller.bell), controller, events })
                }
            }),
            authorities: crate::credential::Authorities::default(),
        };
        let config = AgentConfig { data_dir: dir.path().to_owned(), on_shutdown, ..AgentConfig::default() };
        let home = Home::open(dir.path()).unwrap();
        let running = crate::start_with(config, home, parts, Shutdown::new()).await.unwrap();
        let reporter = slot.lock().unwrap().take().expect("the agent connected");
        Rig { controller, engine, host, running, reporter, dir, on_shutdown }
    }
}

impl Rig {
    pub(super) async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    pub(super) async fn start_in(dir: tempfile::TempDir) -> Self {
        Self::start_as(dir, OnShutdown::Drain).await
    }

    pub(super) async fn start_as(dir: tempfile::TempDir, on_shutdown: OnShutdown) -> Self {
        // Another test may have done so before.
        drop(rustls::crypto::ring::default_provider().install_default());
        let (controller, events) = FakeController::new();
        Away { controller, engine: Arc::default(), dir, on_shutdown }.link(events).await
    }

    /// The agent's process ends as it does for an upgrade.
    pub(super) async fn leave(self) -> Away {
        self.running.stop().await;
        Away {
            controller: self.controller,
            engine: self.engine,
            dir: self.dir,
            on_shutdown: self.on_shutdown,
        }
    }

    pub(super) fn submit(&self, spec: JobSpec) -> AttemptRef {
        let grant = grant(spec);
        let attempt = grant.attempt;
        self.controller.submit(grant);
        attempt
    }

    /// Returns once the attempt is in this phase.
    pub(super) async fn phase(&self, attempt: AttemptRef, phase: JobState) {
        until_held(&self.running.held, |held| {
            held.iter().any(|held| held.attempt == attempt && held.phase == phase)
        })
        .await;
    }

    /// Ends the agent; nothing must be left of any attempt.
    pub(super) async fn stop(self) {
        self.running.stop().await;
        assert_eq!(self.engine.inner.list().await.unwrap(), [], "a container is left");
    }
}

pub(super) async fn until_held(held: &Held, mut seen: impl FnMut(&[HeldAttempt]) -> bool) {
    while !seen(&held.list()) {
        held.changed().await;
    }
}

pub(super) fn grant(spec: JobSpec) -> Grant {
    Grant {
        attempt: AttemptRef { job: JobId::new(), number: 1, epoch: Epoch(1) },
        short_id: ShortId::random(),
        project: "default".to_owned(),
        lane: spec.lane(),
        spec,
        lease: Duration::from_secs(600),
        gpus: Vec::new(),
        cancel_requested: false,
        sealed: false,
    }
}

pub(super) fn job(env: &[(&str, &str)]) -> JobSpec {
    let mut spec = JobSpec::for_image("app:1");
    spec.env = env.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    spec
}

/// Eight cores, 16 GiB, no GPU.
#[derive(Debug)]
pub(super) struct Bench {
    pub(super) disk_free: AtomicU64,
    pub(super) engine_disk_free: AtomicU64,
}

impl Default for Bench {
    fn default() -> Self {
        Self { disk_free: AtomicU64::new(1 << 40), engine_disk_free: AtomicU64::new(1 << 40) }
    }
}

impl Host for Bench {
    fn facts(&self) -> Facts {
        Facts {
            hostname: "bench".to_owned(),
            boot_id: BOOT.to_owned(),
            arch: "amd64".to_owned(),
            cpu_millis: CORES * 1000,
            memory_bytes: 64 << 30,
            ..Facts::default()
        }
    }

    fn read(&self) -> Reading {
        Reading {
            memory_available_bytes: 64 << 30,
            disk: Disk { free_bytes: self.disk_free.load(Ordering::SeqCst), total_bytes: 1 << 40 },
            ..Reading::default()
        }
    }

    /// Of the engine's data, a disk of its own.
    fn disk(&self, _folder: &Path) -> Option<Disk> {
        Some(Disk { free_bytes: self.engine_disk_free.load(Ordering::SeqCst), total_bytes: 1 << 40 })
    }
}

/// An engine that goes away when it is told to, or answers with errors of its own.
#[derive(Debug, Default)]
pub(super) struct Flaky {
    pub(super) inner: Fake,
    away: AtomicBool,
    /// It fails the next list.
    pub(super) confused: AtomicBool,
    /// So many creates find the image gone: somebody else removes it.
    pub(super) images_gone: AtomicU64,
}

impl Flaky {
    pub(super) fn away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    fn reach(&self) -> Result<&Fake, Error> {
        if self.away.load(Ordering::SeqCst) {
            return Err(Error::Unreachable("no such socket".to_owned()));
        }
        Ok(&self.inner)
    }
}

#[async_trait]
impl Runtime for Flaky {
    async fn describe(&self) -> Result<EngineInfo, Error> {
        self.reach()?.describe().await
    }

    async fn ensure_image(&self, request: &ImageRequest, progress: &Progress) -> Result<Image, Error> {
        self.reach()?.ensure_image(request, progress).await
    }

    async fn remove_image(&self, image: &ImageId, names: &BTreeSet<String>) -> Result<Removal, Error> {
        self.reach()?.remove_image(image, names).await
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<ContainerId, Error> {
        let gone = |left: u64| left.checked_sub(1);
        if self.images_gone.fetch_update(Ordering::SeqCst, Ordering::SeqCst, gone).is_ok() {
            self.inner.images().clear();
            return Err(Error::ImageGone("image app:1 vanished".to_owned()));
        }
        self.reach()?.create(spec).await
    }

    async fn start(&self, container: &ContainerId) -> Result<Output, Error> {
        self.reach()?.start(container).await
    }

    async fn attach(
        &self,
        container: &ContainerId,
        seen: Counts,
        began: Option<Moment>,
    ) -> Result<Attached, Error> {
        self.reach()?.attach(container, seen, began).await
    }

    async fn runs_since(&self, container: &ContainerId) -> Result<Option<Timestamp>, Error> {
        self.reach()?.runs_since(container).await
    }

    async fn wait(&self, container: &ContainerId) -> Result<Exit, Error> {
        self.reach()?.wait(container).await
    }

    async fn stop(&self, container: &ContainerId, grace: Duration) -> Result<(), Error> {
        self.reach()?.stop(container, grace).await
    }

    async fn usage(&self, container: &ContainerId) -> Result<Sample, Error> {
        self.reach()?.usage(container).await
    }

    async fn remove(&self, container: &ContainerId) -> Result<(), Error> {
        self.reach()?.remove(container).await
    }

    async fn list(&self) -> Result<Vec<Known>, Error> {
        if self.confused.swap(false, Ordering::SeqCst) {
            return Err(Error::ends(Outcome::RuntimeError, "list the containers: 500"));
        }
        self.reach()?.list().await
    }
}

/// A store that takes every PUT, or never answers one. Its address ends with a slash.
pub(super) async fn store(answers: bool) -> String {
    store_when(watch::Sender::new(answers).subscribe()).await
}

/// One that answers as soon as it is open.
pub(super) async fn store_when(open: watch::Receiver<bool>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let serving = async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut open = open.clone();
            let serve = async move {
                let opened = open.wait_for(|open| *open).await.is_ok();
                if opened {
                    serve(stream).await;
                } else {
                    let _held = stream;
                    std::future::pending::<()>().await;
                }
            };
            drop(longshore_common::tasks::spawn("store.connection", serve));
        }
    };
    drop(longshore_common::tasks::spawn("store", serving));
    url
}

async fn serve(mut stream: TcpStream) {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read) = stream.read(&mut buffer).await {
        if read == 0 {
            return;
        }
        seen.extend_from_slice(&buffer[..read]);
        let Some(head) = seen.windows(4).position(|bytes| bytes == b"\r\n\r\n").map(|at| at + 4) else {
            continue;
        };
        let text = String::from_utf8_lossy(&seen[..head]).to_lowercase();
        let length = text.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let length: usize = length.and_then(|length| length.parse().ok()).expect("uploads say their length");
        if seen.len() < head + length {
            continue;
        }
        seen.drain(..head + length);
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\netag: \"x\"\r\n\r\n";
        if stream.write_all(answer).await.is_err() {
            return;
        }
    }
}
