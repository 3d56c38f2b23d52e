//! While the container runs: its output goes to the log, its deadline and its disk are watched, a stop is carried
//! out, and only the engine's word ends it.

use super::{
    Attempt, Cause, Cut, Origin,
    deadlines::{self, DiskWatch},
    engine_backoff,
};
use crate::runtime::{Chunk, ContainerId, Error, Exit, Output, Runtime, Sample};
use futures::future::{BoxFuture, OptionFuture};
use longshore_common::{
    agent::Usage,
    clock::{Moment, Timestamp},
    job::Outcome,
    retry::Backoff,
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// How long the engine may keep silent about the rest of the output of a container that has ended.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// What it used is not worth more waiting, its files are.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// One thing that happened to a running container.
enum Turn {
    Chunk(Option<Chunk>),
    Exit(Result<Exit, Error>),
    Stop(Cause),
    Stopped(Result<(), Error>),
    Sample(Result<Sample, Error>),
    Line(String),
    Timer,
}

/// Calls to the engine that are under way for one container.
struct Calls<'a> {
    runtime: &'a dyn Runtime,
    container: &'a ContainerId,
    wait: BoxFuture<'a, Result<Exit, Error>>,
    stop: OptionFuture<BoxFuture<'a, Result<(), Error>>>,
    sample: OptionFuture<BoxFuture<'a, Result<Sample, Error>>>,
    wait_backoff: Backoff,
    stop_backoff: Backoff,
    grace: Duration,
}

impl<'a> Calls<'a> {
    fn new(runtime: &'a dyn Runtime, container: &'a ContainerId) -> Self {
        Self {
            runtime,
            container,
            wait: runtime.wait(container),
            stop: None.into(),
            sample: None.into(),
            wait_backoff: engine_backoff(),
            stop_backoff: engine_backoff(),
            grace: Duration::ZERO,
        }
    }

    fn wait_again(&mut self) {
        let (runtime, container, pause) = (self.runtime, self.container, self.wait_backoff.next_wait());
        self.wait = Box::pin(async move {
            tokio::time::sleep(pause).await;
            runtime.wait(container).await
        });
    }

    fn stop(&mut self, grace: Duration) {
        self.grace = grace;
        self.stop = Some(self.runtime.stop(self.container, grace)).into();
    }

    fn stop_again(&mut self) {
        let (runtime, container, grace) = (self.runtime, self.container, self.grace);
        let pause = self.stop_backoff.next_wait();
        let again: BoxFuture<'a, _> = Box::pin(async move {
            tokio::time::sleep(pause).await;
            runtime.stop(container, grace).await
        });
        self.stop = Some(again).into();
    }
}

/// When to act unasked.
struct Alarms {
    deadline: Option<Instant>,
    look: Option<Instant>,
    looked: Instant,
    disk: DiskWatch,
    files: DiskWatch,
}

impl Alarms {
    fn next(&self) -> Instant {
        let far = || Instant::now() + Duration::from_secs(3600);
        [self.deadline, self.look].into_iter().flatten().min().unwrap_or_else(far)
    }
}

impl Attempt {
    /// Follows the container, which runs since `started_at`, to its end.
    pub(super) async fn follow(
        &mut self,
        Output(mut output): Output,
        started_at: Timestamp,
    ) -> Result<(), Cut> {
        let shared = Arc::clone(&self.shared);
        let container = self.container.clone().expect("it was started");
        let mut calls = Calls::new(&*shared.tools.runtime, &container);
        let now = Instant::now();
        let mut alarms = Alarms {
            deadline: Some(deadlines::after(now, self.run_left())),
            look: Some(now + deadlines::SHORTEST),
            looked: now,
            disk: DiskWatch::default(),
            files: DiskWatch::default(),
        };
        self.started_at = Some(started_at);
        self.holding.has_container(&container.0);
        self.holding.opens(&container, self.log.masker());
        self.holding.started(started_at);
        if self.ending.stopped.is_some() {
            alarms.deadline = None;
            calls.stop(self.stop_grace());
        }
        let mut open = true;
        let timer = tokio::time::sleep_until(alarms.next());
        tokio::pin!(timer);
        let exit = loop {
            if timer.deadline() != alarms.next() && (alarms.deadline.is_some() || alarms.look.is_some()) {
                timer.as_mut().reset(alarms.next());
            }
            let known = self.ending.stopped.clone();
            let turn = tokio::select! {
                biased;
                cause = self.signal.beyond(known.as_ref()) => Turn::Stop(cause),
                chunk = output.recv(), if open => Turn::Chunk(chunk),
                exit = &mut calls.wait => Turn::Exit(exit),
                Some(done) = &mut calls.stop => Turn::Stopped(done),
                Some(sample) = &mut calls.sample => Turn::Sample(sample),
                line = self.holding.line() => Turn::Line(line),
                () = &mut timer => Turn::Timer,
            };
            match turn {
                Turn::Chunk(Some(chunk)) => self.log.chunk(chunk.stream, chunk.data).await,
                Turn::Chunk(None) => open = false,
                Turn::Exit(Ok(exit)) => break exit,
                Turn::Line(line) => self.log.system(&line).await,
                other => self.turn(other, &mut calls, &mut alarms).await?,
            }
        };
        self.holding.ended();
        while open {
            match tokio::time::timeout(LAST_WORDS, output.recv()).await {
                Ok(Some(chunk)) => self.log.chunk(chunk.stream, chunk.data).await,
                Ok(None) => open = false,
                Err(_) => {
                    self.log.system("the engine did not end the output: its last bytes may be missing").await;
                    open = false;
                }
            }
        }
        self.last_look(&*shared.tools.runtime, &container, &exit).await;
        self.last_look_at_gpus(&exit).await;
        self.exited(exit);
        Ok(())
    }

    /// What to do about anything but output and the exit.
    async fn turn(&mut self, turn: Turn, calls: &mut Calls<'_>, alarms: &mut Alarms) -> Result<(), Cut> {
        match turn {
            Turn::Stop(cause @ (Cause::Leaving | Cause::Revoked)) => return Err(cause.into()),
            Turn::Stop(cause) => self.stop(cause, calls, alarms).await,
            Turn::Exit(Err(Error::Stuck(detail))) | Turn::Stopped(Err(Error::Stuck(detail))) => {
                self.log.system(&format!("{detail}; the attempt ends without it")).await;
                return Err(Cut::Stuck(detail));
            }
            Turn::Exit(Err(error)) => {
                self.bear(error).await?;
                calls.wait_again();
            }
            Turn::Stopped(done) => {
                calls.stop = None.into();
                if let Err(error) = done {
                    tracing::warn!(%error, "the container is not stopped yet");
                    calls.stop_again();
                }
            }
            Turn::Sample(sample) => {
                calls.sample = None.into();
                self.sampled(sample, calls, alarms).await;
            }
            Turn::Timer if alarms.deadline.is_some_and(|at| at <= Instant::now()) => {
                let length = self.grant.spec.deadlines.run;
                self.stop(Cause::RunDeadline(length), calls, alarms).await;
            }
            Turn::Timer => {
                alarms.look = None;
                calls.sample = Some(calls.runtime.usage(calls.container)).into();
            }
            Turn::Chunk(_) | Turn::Line(_) | Turn::Exit(Ok(_)) => unreachable!("the caller's"),
        }
        Ok(())
    }

    async fn stop(&mut self, cause: Cause, calls: &mut Calls<'_>, alarms: &mut Alarms) {
        let first = self.ending.stopped.is_none();
        alarms.deadline = None;
        self.begin_stop(cause).await;
        if first {
            calls.stop(self.stop_grace());
        }
    }

    /// Says in the log and in the journal why it is stopped, before the container can end of it.
    pub(super) async fn begin_stop(&mut self, cause: Cause) {
        let first = self.ending.stopped.is_none();
        self.ending.stop(cause.clone());
        if !first {
            return;
        }
        if let Some((outcome, detail)) = cause.verdict() {
            let grace = self.stop_grace().as_secs_f64();
            let line = format!("{outcome}: {detail}; SIGTERM now, SIGKILL after {grace} s");
            self.log.system(&line).await;
        }
        self.tools().journal.note(self.intent()).await;
    }

    /// Between SIGTERM and SIGKILL.
    pub(super) fn stop_grace(&self) -> Duration {
        let grace = self.grant.spec.deadlines.stop_grace;
        match self.ending.stopped {
            Some(Cause::HandingBack) => grace.min(self.tools().leave_grace),
            // As the kernel does it: a grace is time to write on.
            Some(Cause::FilesOverMemory { .. }) => Duration::ZERO,
            _ => grace,
        }
    }

    fn run_left(&self) -> Duration {
        let before = self.began.filter(|_| self.origin == Origin::TakenOver);
        let ran = before.map(|began| began.until(Moment::now())).unwrap_or_default();
        self.grant.spec.deadlines.run.saturating_sub(ran)
    }

    async fn sampled(&mut self, sample: Result<Sample, Error>, calls: &mut Calls<'_>, alarms: &mut Alarms) {
        let now = Instant::now();
        let limit = self.grant.spec.resources.scratch_bytes;
        let wait = match sample {
            Ok(sample @ Sample { usage, memory_bytes, disk_bytes, opens_gpus, .. }) => {
                if let Some(may) = opens_gpus.filter(|_| !self.grant.gpus.is_empty()) {
                    self.holding.opens_gpus(may);
                }
                self.used(usage, disk_bytes);
                self.ending.held = self.ending.held.max(sample.held_bytes);
                self.holding.usage(self.usage, memory_bytes, disk_bytes);
                if disk_bytes > limit && self.ending.stopped.is_none() {
                    self.stop(Cause::DiskLimit { used: disk_bytes, limit }, calls, alarms).await;
                }
                if let Some(cause) = self.over_memory(&sample)
                    && self.ending.stopped.is_none()
                {
                    self.stop(cause, calls, alarms).await;
                }
                let wait = alarms.disk.next(disk_bytes, limit, now - alarms.looked);
                wait.min(self.until_over_memory(&sample, alarms, now))
            }
            Err(Error::Ends { outcome: Outcome::DiskLimit, detail }) => {
                if self.ending.stopped.is_none() {
                    self.stop(Cause::Unmeasurable(detail), calls, alarms).await;
                }
                deadlines::LONGEST
            }
            // The container may just have ended; `wait` will say.
            Err(_) => deadlines::LONGEST,
        };
        alarms.looked = now;
        alarms.look = Some(now + wait);
    }

    /// Whether its files and its memory together are more than its memory limit, under a contract that says so.
    fn over_memory(&self, sample: &Sample) -> Option<Cause> {
        let Sample { own_bytes: files, held_bytes: held, .. } = *sample;
        let limit = self.grant.spec.resources.memory_bytes;
        let over = self.grant.spec.files_in_memory() && files.saturating_add(held) > limit;
        over.then_some(Cause::FilesOverMemory { files, held, limit })
    }

    /// What is written meanwhile is what it can be over.
    fn until_over_memory(&self, sample: &Sample, alarms: &mut Alarms, now: Instant) -> Duration {
        if !self.grant.spec.files_in_memory() {
            return Duration::MAX;
        }
        let (used, limit) = (sample.own_bytes + sample.held_bytes, self.grant.spec.resources.memory_bytes);
        alarms.files.next(used, limit, now - alarms.looked).min(deadlines::FILES)
    }

    /// What it left, where that is not known yet or says why it failed.
    async fn last_look(&mut self, runtime: &dyn Runtime, container: &ContainerId, exit: &Exit) {
        if exit.code == 0 && self.usage != Usage::default() {
            return;
        }
        if let Ok(Ok(sample)) = tokio::time::timeout(LAST_LOOK, runtime.usage(container)).await {
            self.used(sample.usage, sample.disk_bytes);
            self.ending.disk_full = sample.disk_full;
            // Its memory is gone with it: what its files alone took counts.
            if exit.code != 0
                && !exit.oom_flag
                && !exit.engine_restarted
                && let Some(cause) = self.over_memory(&sample)
                && self.ending.stopped.is_none()
            {
                self.ending.stop(cause);
            }
        }
    }

    /// Whether it failed of its GPUs.
    async fn last_look_at_gpus(&mut self, exit: &Exit) {
        // Said in the moment of its end: no reason to cut what comes now.
        if let Some(cause @ Cause::GpuFault { .. }) = self.signal.said() {
            self.ending.stop(cause);
        }
        if exit.code != 0 && !self.grant.gpus.is_empty() && self.ending.stopped.is_none() {
            // A GPU that fails takes its program with it before the driver has told of it.
            let known = self.signal.said();
            self.ending.gpus = tokio::select! {
                biased;
                _ = self.signal.beyond(known.as_ref()) => self.holding.story_so_far(),
                story = self.holding.story() => story,
            };
        }
    }

    fn used(&mut self, usage: Usage, disk_bytes: u64) {
        self.usage.cpu_micros = self.usage.cpu_micros.max(usage.cpu_micros);
        self.usage.memory_peak_bytes = self.usage.memory_peak_bytes.max(usage.memory_peak_bytes);
        self.usage.disk_peak_bytes = self.usage.disk_peak_bytes.max(disk_bytes);
    }

    fn exited(&mut self, exit: Exit) {
        self.started_at = Some(exit.started_at);
        self.exited_at = Some(exit.finished_at);
        self.holding.exited(exit.finished_at);
        self.ending.ran = self.began.map(|began| began.shortest_until(exit.finished_at, Moment::now()));
        self.ending.exit = Some(exit);
    }
}
