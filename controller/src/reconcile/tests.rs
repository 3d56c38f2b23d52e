use super::{publish::Publish, *};
use crate::{
    jobs::{self, ClaimCommand, NewJob},
    store::{self, Store},
};
use async_trait::async_trait;
use longshore_common::{
    agent::{Capacity, Offer},
    ids::{AgentId, ClaimId},
    job::{JobSpec, resources::GIB},
    queue::{Error, Lane},
};
use std::{collections::BTreeMap, sync::Mutex};
use tokio::sync::watch;

/// A broker that a test can break, empty and look into.
#[derive(Debug)]
struct Broker {
    down: Mutex<bool>,
    /// Calls while it was down.
    refused: watch::Sender<u32>,
    hints: watch::Sender<BTreeMap<Lane, u32>>,
}

impl Broker {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            down: Mutex::new(false),
            refused: watch::channel(0).0,
            hints: watch::channel(BTreeMap::new()).0,
        })
    }

    fn up(&self) -> Result<(), Error> {
        if *self.down.lock().expect("whole") {
            self.refused.send_modify(|count| *count += 1);
            return Err(Error::Unreachable("gone".into()));
        }
        Ok(())
    }

    fn set_down(&self, down: bool) {
        *self.down.lock().expect("whole") = down;
    }

    fn lose(&self, lane: &Lane, count: u32) {
        self.hints.send_modify(|hints| *hints.get_mut(lane).expect("declared") -= count);
    }

    /// Waits until this many hints are in the lane.
    async fn holds(&self, lane: &Lane, count: u32) {
        let mut hints = self.hints.subscribe();
        let held = hints.wait_for(|hints| hints.get(lane).copied() == Some(count));
        tokio::time::timeout(Duration::from_secs(120), held).await.expect("in time").expect("open");
    }
}

#[async_trait]
impl Publisher for Broker {
    async fn declare(&self, lanes: &[Lane]) -> Result<(), Error> {
        self.up()?;
        self.hints.send_modify(|hints| {
            for lane in lanes {
                hints.entry(lane.clone()).or_default();
            }
        });
        Ok(())
    }

    async fn publish(&self, lane: &Lane, count: u32) -> Result<u32, Error> {
        self.up()?;
        self.hints.send_modify(|hints| *hints.get_mut(lane).expect("declared before") += count);
        Ok(count)
    }

    async fn waiting(&self, lane: &Lane) -> Result<u32, Error> {
        self.up()?;
        Ok(self.hints.borrow().get(lane).copied().unwrap_or(0))
    }

    async fn health(&self) -> Result<String, Error> {
        self.up().map(|()| "a test's".to_owned())
    }
}

struct Bench {
    jobs: Jobs,
    broker: Arc<Broker>,
    lag: Lag,
    shutdown: Shutdown,
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn new(jobs: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = store::Config { path: folder.path().join("c.db"), ..store::Config::default() };
        let store = Store::open(&store).await.expect("opens");
        let handle = Jobs::start(store, jobs::Config::default()).await.expect("starts");
        let bench = Self {
            jobs: handle,
            broker: Broker::new(),
            lag: Lag::default(),
            shutdown: Shutdown::new(),
            _folder: folder,
        };
        bench.submit(jobs).await;
        bench
    }

    async fn submit(&self, count: usize) {
        let new = || NewJob {
            request_id: None,
            project: "default".into(),
            spec: JobSpec::for_image("x"),
            retry_of: None,
            own: Vec::new(),
            submitter: None,
        };
        self.jobs.submit((0..count).map(|_| new()).collect()).await.expect("stored");
    }

    fn publish(&self) -> JoinHandle<()> {
        let config = Config { window: 5, recount_every: Duration::from_millis(300), ..Config::default() };
        let publisher: Arc<dyn Publisher> = self.broker.clone();
        let publish = Publish::new(&config, self.jobs.clone(), publisher, self.lag.clone());
        tasks::spawn("publish", publish.run(self.shutdown.clone()))
    }

    /// Takes jobs, and says which hints that used up.
    async fn claim(&self, slots: u32, spent: u32) -> usize {
        let offer = Offer {
            free: Capacity {
                cpu_millis: 100_000,
                memory_bytes: 1000 * GIB,
                scratch_bytes: 1000 * GIB,
                gpus: 0,
            },
            gpus: vec![],
            slots,
            labels: BTreeMap::new(),
            pool: "default".into(),
            lanes: vec![lane()],
        };
        if spent > 0 {
            self.broker.lose(&lane(), spent);
        }
        let hints = BTreeMap::from([(lane(), spent)]);
        let claim = ClaimCommand { claim: ClaimId::new(), agent: AgentId::new(), offer, hints };
        self.jobs.claim(claim).await.expect("answered").grants.len()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

fn lane() -> Lane {
    Lane::new("default", false)
}

#[tokio::test]
async fn as_many_hints_as_jobs_up_to_the_window() {
    let bench = Bench::new(2).await;
    let running = bench.publish();
    bench.broker.holds(&lane(), 2).await;
    bench.submit(20).await;
    bench.broker.holds(&lane(), 5).await;
    bench.shutdown.trigger();
    running.await.expect("ends when told");
}

#[tokio::test]
async fn spent_hints_come_again_while_there_is_work() {
    let bench = Bench::new(7).await;
    let _running = bench.publish();
    bench.broker.holds(&lane(), 5).await;
    assert_eq!(bench.claim(1, 5).await, 1);
    bench.broker.holds(&lane(), 5).await;
    assert_eq!(bench.claim(6, 5).await, 6);
    bench.submit(1).await;
    bench.broker.holds(&lane(), 1).await;
}

#[tokio::test]
async fn what_the_broker_lost_comes_again() {
    let bench = Bench::new(3).await;
    let _running = bench.publish();
    bench.broker.holds(&lane(), 3).await;
    bench.broker.lose(&lane(), 3);
    bench.broker.holds(&lane(), 3).await;
}

#[tokio::test]
async fn a_broker_that_is_away_delays_and_loses_nothing() {
    let bench = Bench::new(1).await;
    bench.broker.set_down(true);
    let _running = bench.publish();
    bench.submit(2).await;
    while bench.lag.get().is_none() {
        tokio::task::yield_now().await;
    }
    bench.broker.set_down(false);
    bench.broker.holds(&lane(), 3).await;
    while bench.lag.get().is_some() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_broker_that_was_away_for_long_is_found_soon_after_its_return() {
    let bench = Bench::new(1).await;
    bench.broker.set_down(true);
    let _running = bench.publish();
    while bench.lag.get().is_none() {
        tokio::task::yield_now().await;
    }
    // Many waits that grow. The clock is moved, not paused: the database is on another thread.
    let mut refused = bench.broker.refused.subscribe();
    for _ in 0..20 {
        refused.mark_unchanged();
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(60)).await;
        tokio::time::resume();
        refused.changed().await.expect("it tries on");
    }
    bench.broker.set_down(false);
    let back = tokio::time::Instant::now();
    bench.broker.holds(&lane(), 1).await;
    assert!(back.elapsed() < Duration::from_secs(5), "found after {:?}", back.elapsed());
}

#[tokio::test]
async fn a_job_whose_backoff_is_over_is_queued_without_a_sweep_in_between() {
    use longshore_common::{agent::FinishReport, agent::Usage, job::Outcome};
    let bench = Bench::new(0).await;
    let mut spec = JobSpec::for_image("x");
    spec.retry.backoff = Duration::from_millis(400);
    let new = NewJob {
        request_id: None,
        project: "default".into(),
        spec,
        retry_of: None,
        own: Vec::new(),
        submitter: None,
    };
    bench.jobs.submit(vec![new]).await.expect("stored");
    let loops =
        tasks::spawn("backoffs", drive(expire::Backoffs::new(bench.jobs.clone()), bench.shutdown.clone()));
    assert_eq!(bench.claim(1, 0).await, 1);
    let job = bench.jobs.list(&jobs::JobFilter::default(), 1, "").await.expect("a page").items.remove(0);
    let attempt = bench.jobs.attempts(job.id).await.expect("there")[0].attempt;
    let mut changes = bench.jobs.nudges().changes();
    let report = FinishReport {
        attempt,
        outcome: Outcome::RuntimeError,
        detail: String::new(),
        log_end: 0,
        manifest_pages: 0,
        artifact_count: 0,
        artifact_bytes: 0,
        usage: Usage::default(),
        started_at: None,
        exited_at: None,
        notes: vec![],
        digest: None,
    };
    bench.jobs.finish(vec![report]).await.expect("stored");
    let mut states = Vec::new();
    while states.len() < 2 {
        let told = tokio::time::timeout(Duration::from_secs(20), changes.recv()).await;
        states.extend(told.expect("before the slow sweep").expect("open").iter().map(|change| change.state));
    }
    use longshore_common::job::JobState;
    assert_eq!(states, [JobState::Waiting, JobState::Queued]);
    bench.shutdown.trigger();
    loops.await.expect("ends when told");
}
