//! A runtime without containers, scripted by the job's environment: for tests, and (`runtime.kind = "null"`) for
//! measuring everything but the engine. A job without a script ends at once, successfully, without a task or timer
//! of its own.
//!
//! | variable | meaning |
//! |---|---|
//! | `FAKE_RUN` | how long it runs: `100ms`, `2s`, `forever` |
//! | `FAKE_EXIT` | exit code |
//! | `FAKE_STDOUT`, `FAKE_STDERR` | what it writes at the start |
//! | `FAKE_OUTPUT_BYTES` | that much more on stdout, in lines |
//! | `FAKE_TERM_EXIT` | exit code on SIGTERM (143) |
//! | `FAKE_IGNORE_TERM` | set: only SIGKILL ends it |
//! | `FAKE_STUCK` | for that long after its start nothing ends it and nothing removes it |
//! | `FAKE_OOM` | set: the flag is up, and the code 137 unless `FAKE_EXIT` says another |
//! | `FAKE_ENGINE_RESTART` | set: the engine took it along |
//! | `FAKE_FILES` | files of `/out`: `a.txt:11,b/c.bin:3000000` |
//! | `FAKE_DISK` | bytes of disk it claims to use, or `unmeasurable` |
//! | `FAKE_GPUS_SHUT` | after that long it cannot open its GPUs any more |
//! | `FAKE_START_ERROR` | an outcome: the start fails so |
//! | `FAKE_HANG` | `create` or `start`: that call is never answered |
//!
//! A process inside of it is played by its command: `echo WORD…`, `complain WORD…` (on stderr), `cat`, `exit N`,
//! `size` (says the terminal's at each change), `hang`.
//!
//! Images are on the node as soon as somebody asked for them, each of one GiB, until they are removed. They begin with `fake.missing/`, `fake.denied/` or `fake.silent/` to fail, `fake.slow/`
//! to take two seconds; with `fake.moving/` to mean another image at every look, and with `fake.built/` to have no
//! digest.

mod inside;
mod script;

use super::{
    Attached, Chunk, ContainerId, ContainerSpec, Counts, EngineInfo, Error, Exit, Image, ImageId,
    ImageRequest, Inside, Known, Output, Progress, Removal, Runtime, Sample, Scratch,
};
use async_trait::async_trait;
use longshore_common::{
    agent::Usage,
    clock::{Moment, Timestamp},
    exec::Start,
    ids::{AgentId, AttemptRef, ClusterId},
    job::{Outcome, PullPolicy},
};
use script::{Hang, Script};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

const TERMINATED: i32 = 143;
const KILLED: i32 = 137;
const STUCK_AFTER: Duration = Duration::from_secs(60);
const IMAGE: u64 = 1 << 30;
const SLOW_PULL: Duration = Duration::from_secs(2);

/// A runtime that only pretends.
#[derive(Debug, Default)]
pub struct Fake {
    containers: Mutex<HashMap<ContainerId, Arc<Container>>>,
    images: Mutex<HashSet<String>>,
    /// Makes folders only for jobs that have files.
    bare: bool,
    /// Their removal fails.
    immovable: Mutex<HashSet<ContainerId>>,
    /// At names that mean another image each time.
    looks: AtomicU64,
    /// Processes that were started in containers and have not ended.
    inside: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Container {
    agent: AgentId,
    cluster: ClusterId,
    attempt: AttemptRef,
    image: ImageId,
    folder: Option<PathBuf>,
    script: Script,
    state: Mutex<State>,
    end: watch::Sender<Option<Exit>>,
}

#[derive(Debug, Default)]
struct State {
    started: Option<(Timestamp, Instant)>,
    /// Keeps the output open while it runs.
    output: Option<mpsc::Sender<Chunk>>,
}

impl Fake {
    pub fn new() -> Self {
        Self::default()
    }

    /// One that makes no folders that nobody writes to.
    pub fn bare() -> Self {
        Self { bare: true, ..Self::default() }
    }

    /// From now on this container cannot be removed.
    pub fn never_remove(&self, container: &ContainerId) {
        self.immovable.lock().unwrap_or_else(PoisonError::into_inner).insert(container.clone());
    }

    /// Every name has one digest, but for those of `fake.moving`, which mean another at every look, and of `fake.built`,
    /// which no registry has.
    fn digest(&self, image: &str) -> Option<String> {
        if let Some((_, digest)) = image.split_once('@') {
            return Some(digest.to_owned());
        }
        let looks = match image.split('/').next() {
            Some("fake.built") => return None,
            Some("fake.moving") => self.looks.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
        Some(format!("sha256:{}", hex::encode(Sha256::digest(format!("{image} {looks}")))))
    }

    /// Every image on the node.
    pub fn images(&self) -> MutexGuard<'_, HashSet<String>> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many processes that somebody started in a container are there.
    pub fn processes(&self) -> u64 {
        self.inside.load(Ordering::Relaxed)
    }

    fn find(&self, id: &ContainerId) -> Result<Arc<Container>, Error> {
        let all = self.containers.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = || Error::ends(Outcome::RuntimeError, format!("container {} is gone", id.0));
        all.get(id).cloned().ok_or_else(gone)
    }
}

impl Container {
    /// Ends it, unless it has ended before.
    fn finish(&self, code: i32, oom_flag: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let finished_at = Timestamp::now();
        let started_at = state.started.map_or(finished_at, |(at, _)| at);
        let engine_restarted = self.script.engine_restart;
        self.end.send_if_modified(|end| {
            let first = end.is_none();
            end.get_or_insert(Exit { code, oom_flag, started_at, finished_at, engine_restarted });
            first
        });
        state.output = None;
    }

    /// What it writes, all of it at once, but for what was seen.
    fn speak(&self, mut seen: Counts) -> (mpsc::Sender<Chunk>, Output) {
        let chunks = self.script.chunks();
        let (sender, output) = mpsc::channel(chunks.len().max(1));
        for (stream, mut data) in chunks {
            let skipped = (*seen.of(stream)).min(data.len() as u64);
            *seen.of(stream) -= skipped;
            let data = data.split_off(usize::try_from(skipped).expect("no longer than the data"));
            sender.try_send(Chunk { stream, data }).expect("there is room for all of them");
        }
        (sender, Output(output))
    }

    /// Until when nothing can be done about it.
    fn stuck_until(&self) -> Option<Instant> {
        let started = self.state.lock().unwrap_or_else(PoisonError::into_inner).started;
        let until = started.map(|(_, at)| at + self.script.stuck);
        until.filter(|until| *until > Instant::now())
    }

    async fn unstuck(&self) {
        if let Some(until) = self.stuck_until() {
            tokio::time::sleep_until(until).await;
        }
    }

    async fn ended(&self) -> Exit {
        let mut end = self.end.subscribe();
        let end = end.wait_for(Option::is_some).await.expect("the sender is in self");
        end.clone().expect("waited until it is some")
    }

    /// Its end by itself: known already, or when its time is up.
    async fn run_out(&self) -> Exit {
        let started = self.state.lock().unwrap_or_else(PoisonError::into_inner).started;
        let due = started.zip(self.script.run).map(|((_, at), run)| at + run);
        tokio::select! {
            exit = self.ended() => exit,
            () = until(due) => {
                self.finish(self.script.exit, self.script.oom);
                self.ended().await
            }
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[async_trait]
impl Runtime for Fake {
    async fn describe(&self) -> Result<EngineInfo, Error> {
        Ok(EngineInfo {
            name: "null".to_owned(),
            arch: super::docker_arch(std::env::consts::ARCH).to_owned(),
            data_root: std::env::temp_dir(),
            disk_limit: "sampled".to_owned(),
            warning: None,
        })
    }

    async fn ensure_image(&self, request: &ImageRequest, progress: &Progress) -> Result<Image, Error> {
        let image = &request.image;
        let outcome = match image.split_once('/').map(|(host, _)| host) {
            Some("fake.missing") => Some(Outcome::ImageNotFound),
            Some(_) if request.policy == PullPolicy::Never => None,
            Some("fake.denied") => Some(Outcome::RegistryAuth),
            Some("fake.silent") => Some(Outcome::RegistryUnavailable),
            Some("fake.slow") => {
                progress.say(format!("pulling {image}  1 of 2 MiB"));
                tokio::time::sleep(SLOW_PULL).await;
                None
            }
            _ => None,
        };
        match outcome {
            Some(outcome) => Err(Error::ends(outcome, format!("pull of {image}: scripted"))),
            None => {
                let pulled = request.policy != PullPolicy::Never && self.images().insert(image.clone());
                let asked = request.policy == PullPolicy::Always;
                let digest = self.digest(image);
                let given_as = vec![image.clone()];
                Ok(Image { id: ImageId(image.clone()), pulled, asked, given_as, user: String::new(), digest })
            }
        }
    }

    async fn remove_image(&self, image: &ImageId, _names: &BTreeSet<String>) -> Result<Removal, Error> {
        let all = self.containers.lock().unwrap_or_else(PoisonError::into_inner);
        if all.values().any(|container| container.image == *image) {
            return Ok(Removal::Needed);
        }
        Ok(Removal::Gone { bytes: if self.images().remove(&image.0) { IMAGE } else { 0 } })
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<ContainerId, Error> {
        let id = ContainerId(format!("fake-{}-{}", spec.attempt, spec.attempt.epoch.0));
        let script = Script::read(&spec.env, &spec.scratch, self.bare)?;
        if script.hang == Some(Hang::Create) {
            return std::future::pending().await;
        }
        script.make_folders()?;
        let mut all = self.containers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = all.get(&id) {
            if (there.agent, there.cluster) != (spec.agent, spec.cluster) {
                let detail = format!("container {} is not this attempt's", id.0);
                return Err(Error::ends(Outcome::RuntimeError, detail));
            }
            return Ok(id);
        }
        let container = Container {
            agent: spec.agent,
            cluster: spec.cluster,
            attempt: spec.attempt,
            image: spec.image.clone(),
            folder: Scratch::home(&spec.scratch.out).map(Path::to_owned),
            script,
            state: Mutex::default(),
            end: watch::Sender::new(None),
        };
        all.insert(id.clone(), Arc::new(container));
        Ok(id)
    }

    async fn start(&self, container: &ContainerId) -> Result<Output, Error> {
        let container = self.find(container)?;
        if container.script.hang == Some(Hang::Start) {
            return std::future::pending().await;
        }
        if let Some(outcome) = &container.script.start_error {
            return Err(Error::ends(outcome.clone(), "scripted"));
        }
        container.script.write_files()?;
        let (sender, output) = container.speak(Counts::default());
        container.state.lock().unwrap_or_else(PoisonError::into_inner).started =
            Some((Timestamp::now(), Instant::now()));
        if container.script.run == Some(Duration::ZERO) {
            container.finish(container.script.exit, container.script.oom);
        } else {
            container.state.lock().unwrap_or_else(PoisonError::into_inner).output = Some(sender);
        }
        Ok(output)
    }

    async fn attach(
        &self,
        container: &ContainerId,
        seen: Counts,
        _began: Option<Moment>,
    ) -> Result<Attached, Error> {
        let found = self.find(container)?;
        let started = found.state.lock().unwrap_or_else(PoisonError::into_inner).started;
        let Some((started_at, _)) = started else {
            let output = self.start(container).await?;
            return Ok(Attached { output, started_at: Timestamp::now() });
        };
        let (sender, output) = found.speak(seen);
        if found.end.borrow().is_none() {
            found.state.lock().unwrap_or_else(PoisonError::into_inner).output = Some(sender);
        }
        Ok(Attached { output, started_at })
    }

    async fn runs_since(&self, container: &ContainerId) -> Result<Option<Timestamp>, Error> {
        let container = self.find(container)?;
        let started = container.state.lock().unwrap_or_else(PoisonError::into_inner).started;
        Ok(started.map(|(at, _)| at).filter(|_| container.end.borrow().is_none()))
    }

    async fn wait(&self, container: &ContainerId) -> Result<Exit, Error> {
        Ok(self.find(container)?.run_out().await)
    }

    async fn stop(&self, container: &ContainerId, grace: Duration) -> Result<(), Error> {
        let container = self.find(container)?;
        if container.state.lock().unwrap_or_else(PoisonError::into_inner).started.is_none() {
            return Ok(());
        }
        if container.stuck_until().is_some() {
            let waited = tokio::time::timeout(grace + STUCK_AFTER, container.unstuck()).await;
            waited.map_err(|_| Error::Stuck("SIGKILL does nothing: scripted".to_owned()))?;
        }
        if !container.script.ignore_term {
            container.finish(container.script.term_exit.unwrap_or(TERMINATED), false);
        }
        if tokio::time::timeout(grace, container.run_out()).await.is_err() {
            container.finish(KILLED, false);
        }
        Ok(())
    }

    async fn exec(&self, container: &ContainerId, start: &Start) -> Result<Inside, Error> {
        let container = self.find(container)?;
        if container.end.borrow().is_some() {
            return Err(Error::ends(Outcome::RuntimeError, "the container does not run any more"));
        }
        inside::start(container, start, Arc::clone(&self.inside))
    }

    async fn usage(&self, container: &ContainerId) -> Result<Sample, Error> {
        let container = self.find(container)?;
        let started = container.state.lock().unwrap_or_else(PoisonError::into_inner).started;
        let ran = started.map_or(Duration::ZERO, |(_, at)| at.elapsed());
        let Some(disk_bytes) = container.script.disk else {
            return Err(Error::ends(Outcome::DiskLimit, "its folders cannot be measured"));
        };
        let opens_gpus = container.script.gpus_shut.map(|after| ran < after);
        let usage = Usage {
            cpu_micros: u64::try_from(ran.as_micros()).unwrap_or(u64::MAX),
            memory_peak_bytes: 1 << 20,
            disk_peak_bytes: disk_bytes,
            ..Usage::default()
        };
        Ok(Sample {
            usage,
            memory_bytes: 0,
            disk_bytes,
            own_bytes: disk_bytes,
            held_bytes: 0,
            disk_full: false,
            opens_gpus,
        })
    }

    async fn remove(&self, container: &ContainerId) -> Result<(), Error> {
        if let Ok(container) = self.find(container) {
            container.unstuck().await;
        }
        if self.immovable.lock().unwrap_or_else(PoisonError::into_inner).contains(container) {
            return Err(Error::ends(Outcome::RuntimeError, format!("container {} stays", container.0)));
        }
        let gone = self.containers.lock().unwrap_or_else(PoisonError::into_inner).remove(container);
        if let Some(container) = gone {
            container.finish(KILLED, false);
            container.script.remove_folders()?;
        }
        Ok(())
    }

    async fn list(&self) -> Result<Vec<Known>, Error> {
        let all = self.containers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.iter().map(|(id, container)| Known {
            container: id.clone(),
            cluster: container.cluster,
            attempt: container.attempt,
            running: container.end.borrow().is_none(),
            folder: container.folder.clone(),
        });
        Ok(known.collect())
    }
}

#[cfg(test)]
mod tests;
