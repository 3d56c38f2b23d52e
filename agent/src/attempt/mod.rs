//! One attempt at a job, from its grant to its accepted finish: prepare, create, start, follow, collect, report,
//! and only then clean up. Owns the container's life; never a job's state, and never reports twice or after it was
//! fenced.

mod caches;
mod deadlines;
mod earlier;
mod ending;
mod held;
mod phase;
mod prepare;
mod running;
mod secrets;
mod shares;
mod stop;
mod takeover;
mod walls;

pub(crate) use earlier::{Earlier, containers, of};
pub(crate) use ending::clean;
pub(crate) use held::Open;
pub use held::{Held, Holding};
pub use stop::Cause;
pub(crate) use takeover::Left;
pub use walls::Walls;

use crate::{
    artifacts::{Collected, Uploader},
    caches::Caches,
    images::{Images, InUse},
    inputs::Fetcher,
    journal::{Intent, Journal},
    link::Controller,
    logs::{LogShipper, LogSink},
    runtime::{self, ContainerId, Runtime},
    secrets::{Secrets, Vault},
    shares::Shares,
    slots::{Permit, Slots},
};
use longshore_common::{
    agent::{Grant, Usage},
    clock::{Moment, Timestamp, Uptime},
    ids::{AgentId, AttemptRef, ClusterId, ShortId},
    job::Outcome,
    retry::Backoff,
    tasks,
};
use phase::Ending;
use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};
use stop::StopSignal;
use tokio::{sync::Notify, time::Instant};
use tokio_util::task::{TaskTracker, task_tracker::TrackedFuture};
use tracing::Instrument as _;

/// Everything an attempt works with. One per agent; clones are handles.
#[derive(Clone, Debug)]
pub struct Attempts(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    tools: Tools,
    tracker: TaskTracker,
}

#[derive(Debug)]
pub struct Tools {
    /// The weakest layer of a container's environment.
    pub container_env: BTreeMap<String, String>,
    pub walls: Walls,
    /// Between SIGTERM and SIGKILL when the agent leaves.
    pub leave_grace: Duration,
    /// What files of a container that has ended may take when the agent leaves and gives its jobs back.
    pub leave_uploads: Duration,
    /// How long files that could not be stored stay on the node.
    pub keep_files: Duration,
    pub agent: AgentId,
    /// Of the machine, as long as it is up.
    pub boot_id: String,
    /// One folder per attempt is made in it.
    pub dir: PathBuf,
    pub controller: Arc<dyn Controller>,
    pub runtime: Arc<dyn Runtime>,
    pub logs: LogShipper,
    pub uploads: Uploader,
    pub inputs: Fetcher,
    pub images: Images,
    pub vault: Vault,
    pub shares: Shares,
    pub caches: Caches,
    pub journal: Journal,
    pub held: Held,
    pub slots: Slots,
    /// Rung when the engine did not answer: whoever watches it looks at once.
    pub engine_away: Arc<Notify>,
}

impl Tools {
    pub(crate) fn attempt_dir(&self, job: &ShortId, attempt: &AttemptRef) -> PathBuf {
        self.dir.join(runtime::folder_name(job, attempt))
    }
}

impl Attempts {
    pub fn new(tools: Tools) -> Self {
        Self(Arc::new(Shared { tools, tracker: TaskTracker::new() }))
    }

    pub(crate) fn tools(&self) -> &Tools {
        &self.0.tools
    }

    /// Work of the agent itself that must be over before it leaves.
    pub(crate) fn track<F: Future>(&self, work: F) -> TrackedFuture<F> {
        self.0.tracker.track_future(work)
    }

    /// Carries out a grant beside the caller. One that is held already is not started again.
    /// Its lease counts from `asked_at`, when it was claimed.
    pub fn launch(&self, cluster: ClusterId, grant: Grant, asked_at: Instant) {
        let tools = &self.0.tools;
        let Some((holding, signal)) = tools.held.admit(grant.attempt, grant.lease, asked_at) else { return };
        holding.serves(&grant.short_id, &grant.project, &grant.gpus);
        let permit = tools.slots.take(&grant.short_id, &grant.spec.resources, &grant.gpus);
        let log = tools.logs.open(grant.attempt);
        let mut attempt = self.attempt(cluster, grant, (holding, signal, permit), log);
        attempt.asked = Uptime::now().map(|now| now.minus(asked_at.elapsed()));
        self.spawn(attempt);
    }

    fn attempt(
        &self,
        cluster: ClusterId,
        grant: Grant,
        (holding, signal, permit): (Holding, StopSignal, Permit),
        log: LogSink,
    ) -> Attempt {
        holding.has_gpus(&grant.gpus, grant.spec.resources.gpu.as_ref());
        self.0.tools.caches.hold(grant.attempt, &grant.project, grant.spec.caches.keys());
        Attempt {
            shared: Arc::clone(&self.0),
            cluster,
            ending: Ending { limits: (&grant.spec.resources).into(), ..Ending::default() },
            grant: Arc::new(grant),
            origin: Origin::Granted,
            asked: None,
            began: None,
            holding,
            permit,
            signal,
            log,
            secrets: Arc::default(),
            image: None,
            container: None,
            sought: None,
            collected: Collected::default(),
            unstored: false,
            usage: Usage::default(),
            started_at: None,
            exited_at: None,
            digest: None,
            engine_away_told: false,
        }
    }

    fn spawn(&self, attempt: Attempt) {
        let grant = &attempt.grant;
        let span = tracing::info_span!("attempt", job.id = %grant.short_id, attempt.id = %grant.attempt);
        let work = Box::pin(attempt.carry_out()).instrument(span);
        drop(tasks::spawn("attempt", self.0.tracker.track_future(work)));
    }

    /// Returns when every attempt is finished and cleaned up.
    pub async fn done(&self) {
        self.0.tracker.close();
        self.0.tracker.wait().await;
    }
}

/// An attempt under way and what is known about it.
#[derive(Debug)]
struct Attempt {
    shared: Arc<Shared>,
    cluster: ClusterId,
    grant: Arc<Grant>,
    origin: Origin,
    /// When it was asked for.
    asked: Option<Uptime>,
    /// When its container was started, by our own clocks.
    began: Option<Moment>,
    holding: Holding,
    permit: Permit,
    signal: StopSignal,
    log: LogSink,
    secrets: Arc<Secrets>,
    ending: Ending,
    /// As long as the attempt lives.
    image: Option<InUse>,
    container: Option<ContainerId>,
    /// Where its container is to be found: whether there is one is not known yet.
    sought: Option<Earlier>,
    collected: Collected,
    /// Its files stay on this node when it is over.
    unstored: bool,
    usage: Usage,
    started_at: Option<Timestamp>,
    exited_at: Option<Timestamp>,
    /// Of its image, as the registry names it.
    digest: Option<String>,
    engine_away_told: bool,
}

/// How this process came to an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Granted,
    /// An earlier process had it.
    TakenOver,
}

/// Why an attempt does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cut {
    Stopped(Cause),
    Failed(Outcome, String),
    /// Its container cannot be ended.
    Stuck(String),
}

impl From<Cause> for Cut {
    fn from(cause: Cause) -> Self {
        Self::Stopped(cause)
    }
}

impl Attempt {
    async fn carry_out(mut self) {
        let worked = match self.origin {
            Origin::Granted => self.begin().await,
            Origin::TakenOver => self.go_on().await,
        };
        if let Err(cut) = worked {
            match cut {
                Cut::Stopped(cause) => self.ending.stop(cause),
                Cut::Failed(outcome, detail) => self.ending.failed = Some((outcome, detail)),
                Cut::Stuck(detail) => self.ending.stuck = Some(detail),
            }
        }
        self.end().await;
    }

    async fn begin(&mut self) -> Result<(), Cut> {
        if self.grant.cancel_requested {
            return Err(Cause::Cancelled("cancelled before it started".to_owned()).into());
        }
        let deadline = self.prepare_deadline();
        self.fetch_secrets(&deadline).await?;
        let mut spec = self.prepare(&deadline).await?;
        let output = self.start(&mut spec, &deadline).await?;
        let began = self.note_start(Moment::now()).await;
        self.follow(output, began.at).await?;
        self.permit.release_compute();
        self.collect(&spec.scratch.out).await
    }

    async fn note_start(&mut self, began: Moment) -> Moment {
        self.began = Some(began);
        self.tools().journal.note_start(self.grant.attempt, began).await;
        began
    }

    fn tools(&self) -> &Tools {
        &self.shared.tools
    }

    /// Says once in the log that the engine does not answer, and rings whoever watches it.
    async fn engine_away(&mut self, error: &runtime::Error) {
        self.tools().engine_away.notify_one();
        if !std::mem::replace(&mut self.engine_away_told, true) {
            tracing::warn!(%error, "waiting for the container engine");
            self.log.system(&format!("{error}; waiting for it")).await;
        }
    }

    /// An engine that does not answer is waited for; anything else ends the attempt.
    async fn bear(&mut self, error: runtime::Error) -> Result<(), Cut> {
        match error {
            runtime::Error::Ends { outcome, detail } => Err(Cut::Failed(outcome, detail)),
            runtime::Error::Stuck(detail) => Err(Cut::Stuck(detail)),
            runtime::Error::ImageGone(detail) => Err(Cut::Failed(Outcome::RuntimeError, detail)),
            away @ runtime::Error::Unreachable(_) => {
                self.engine_away(&away).await;
                Ok(())
            }
        }
    }

    /// What the next process must know of it.
    fn intent(&self) -> Intent {
        let intent = Intent::of(self.cluster, &self.tools().boot_id, &self.grant);
        Intent {
            asked: self.asked,
            started: self.began,
            stopping: self.ending.stopped.clone(),
            unstored: self.unstored,
            ..intent
        }
    }

    /// The attempt's own folder on this node.
    fn dir(&self) -> PathBuf {
        self.tools().attempt_dir(&self.grant.short_id, &self.grant.attempt)
    }
}

/// How long a stop waits for a call to the engine. A cancelled job must be gone within grace and five seconds.
const MOMENT: Duration = Duration::from_secs(4);

/// Between two tries of a call to an engine that does not answer: soon at first, it may only restart.
const fn engine_backoff() -> Backoff {
    Backoff::new(Duration::from_millis(200), Duration::from_secs(5))
}
