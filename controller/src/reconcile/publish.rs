//! Keeps a few hints in every lane that has queued work. Per lane it knows `out`, the hints published and not yet
//! reported as used, and publishes while `out < min(window, queued)`. Every so often, and at start, `out` becomes
//! the queue's own count: so what a broker lost comes again, and what was counted wrong is forgotten.

use super::Config;
use crate::jobs::{self, Jobs, Work};
use longshore_common::{
    queue::{self, Lane, Publisher},
    retry::Backoff,
    shutdown::Shutdown,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError, error::TryRecvError},
    time::{Instant, sleep_until},
};

/// Between two tries while the queue is away. With what the connection itself waits, jobs flow within 10 s of its
/// return, however long it was away.
const MOST_WAIT: Duration = Duration::from_secs(2);

/// Since when queued work has been without a hint.
#[derive(Clone, Debug, Default)]
pub struct Lag(Arc<Mutex<Option<Instant>>>);

impl Lag {
    /// `None`: every lane has its hints.
    pub fn get(&self) -> Option<Duration> {
        self.0.lock().expect("nobody panics under this lock").map(|since| since.elapsed())
    }

    fn set(&self, behind: bool) {
        let mut since = self.0.lock().expect("nobody panics under this lock");
        *since = if behind { since.or_else(|| Some(Instant::now())) } else { None };
    }
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Jobs(#[from] jobs::Error),
    #[error(transparent)]
    Queue(#[from] queue::Error),
}

#[derive(Debug)]
pub(super) struct Publish {
    jobs: Jobs,
    publisher: Arc<dyn Publisher>,
    window: u32,
    recount_every: Duration,
    lag: Lag,
    work: Receiver<Arc<Work>>,
    /// Hints believed to be in each lane.
    out: BTreeMap<Lane, u32>,
    /// Lanes to look at.
    due: BTreeSet<Lane>,
    /// When to take the queue's own counts.
    recount: Instant,
}

impl Publish {
    pub(super) fn new(config: &Config, jobs: Jobs, publisher: Arc<dyn Publisher>, lag: Lag) -> Self {
        Self {
            work: jobs.nudges().work(),
            jobs,
            publisher,
            window: config.window,
            recount_every: config.recount_every,
            lag,
            out: BTreeMap::new(),
            due: BTreeSet::new(),
            recount: Instant::now(),
        }
    }

    pub(super) async fn run(mut self, shutdown: Shutdown) {
        let mut backoff = Backoff::new(Duration::from_millis(200), MOST_WAIT);
        let mut failing = false;
        while !shutdown.is_triggered() {
            let wake = match self.pass().await {
                Ok(()) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!("hints are published again");
                    }
                    backoff.reset();
                    self.lag.set(false);
                    self.recount
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(%error, "hints cannot be published; trying on, nothing is lost");
                    }
                    self.lag.set(true);
                    // The connection may be a new one: begin from the queue's own counts.
                    self.recount = Instant::now();
                    Instant::now() + backoff.next_wait()
                }
            };
            tokio::select! {
                () = sleep_until(wake) => {}
                work = self.work.recv(), if !failing => self.hear(work),
                () = shutdown.triggered() => return,
            }
        }
    }

    /// One look at everything that is due.
    async fn pass(&mut self) -> Result<(), Error> {
        self.drain();
        if Instant::now() >= self.recount {
            self.recount().await?;
        }
        while let Some(lane) = self.due.first().cloned() {
            self.fill(&lane).await?;
            self.due.remove(&lane);
        }
        Ok(())
    }

    async fn recount(&mut self) -> Result<(), Error> {
        let queued = self.jobs.queued(1).await?;
        let mut lanes: BTreeSet<Lane> = self.out.keys().chain(queued.keys()).cloned().collect();
        // Agents consume from their pool's lanes before any job was ever queued there.
        for agent in self.jobs.agents() {
            lanes.extend(Lane::of_pool(&agent.identity.pool));
        }
        lanes.extend(Lane::of_pool(longshore_common::job::spec::DEFAULT_POOL));
        let lanes: Vec<_> = lanes.into_iter().collect();
        self.publisher.declare(&lanes).await?;
        for lane in lanes {
            let waiting = self.publisher.waiting(&lane).await?;
            self.out.insert(lane.clone(), waiting);
            self.due.insert(lane);
        }
        self.recount = Instant::now() + self.recount_every;
        Ok(())
    }

    async fn fill(&mut self, lane: &Lane) -> Result<(), Error> {
        if !self.out.contains_key(lane) {
            self.publisher.declare(std::slice::from_ref(lane)).await?;
            let waiting = self.publisher.waiting(lane).await?;
            self.out.insert(lane.clone(), waiting);
        }
        let wanted = self.jobs.queued_in(lane, self.window).await?;
        let out = self.out.get(lane).copied().unwrap_or(0);
        if wanted > out {
            let confirmed = self.publisher.publish(lane, wanted - out).await?;
            self.out.insert(lane.clone(), out + confirmed);
        }
        Ok(())
    }

    fn hear(&mut self, work: Result<Arc<Work>, RecvError>) {
        match work {
            Ok(work) => self.note(&work),
            // Nudges were missed: count anew.
            Err(RecvError::Lagged(_)) => self.recount = Instant::now(),
            Err(RecvError::Closed) => {}
        }
    }

    fn drain(&mut self) {
        loop {
            match self.work.try_recv() {
                Ok(work) => self.note(&work),
                Err(TryRecvError::Lagged(_)) => self.recount = Instant::now(),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn note(&mut self, work: &Work) {
        for (lane, spent) in &work.spent {
            if let Some(out) = self.out.get_mut(lane) {
                *out = out.saturating_sub(*spent);
            }
            self.due.insert(lane.clone());
        }
        self.due.extend(work.queued.keys().cloned());
    }
}
