//! Over engines that take calls and do not answer them.

use super::*;
use crate::runtime::{
    Config, ContainerId, ContainerSpec, Runtime as _, Scratch,
    contract::sample_spec,
    docker::{
        Docker,
        play::{NEVER, Process},
    },
};
use longshore_common::ids::AgentId;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

const PATIENCE: Duration = Duration::from_millis(200);

/// An engine whose starts hang as long as it is told so. Pings are answered all the time.
struct Bench {
    home: tempfile::TempDir,
    docker: Docker,
    hang: Arc<AtomicBool>,
    /// Calls of now, and the most there were.
    busy: Arc<[AtomicU32; 2]>,
}

impl Bench {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let host = Some(format!("unix://{}/engine.sock", home.path().display()));
        let config = Config { host, ..Config::default() };
        let at_once = config.calls_at_once;
        let mut docker = Docker::new(config, AgentId::new());
        docker.calls = Arc::new(Calls::new(at_once, PATIENCE));
        Self { home, docker, hang: Arc::new(AtomicBool::new(true)), busy: Arc::default() }
    }

    fn process(&self) -> Process {
        let hang = Arc::clone(&self.hang);
        Process::start(&self.home.path().join("engine.sock"), move |method, path| {
            let ok = |status: u16, body: &str| Some((status, body.to_owned()));
            match path.rsplit('/').next().unwrap_or_default() {
                "start" if hang.load(Ordering::Acquire) => ok(NEVER, ""),
                "create" => ok(201, r#"{"Id":"c1","Warnings":[]}"#),
                "attach" => ok(101, ""),
                "info" => None,
                _ if method == "GET" => ok(200, r#"{"State":{"Status":"created"}}"#),
                _ => ok(204, ""),
            }
        })
    }

    fn spec(&self) -> ContainerSpec {
        let mut spec = sample_spec();
        spec.scratch = Scratch::of(self.home.path(), spec.attempt, []);
        spec
    }

    /// Counts the calls that are under way at one time.
    async fn call(&self, client: &Client) {
        let busy = Arc::clone(&self.busy);
        let call = async move {
            let now = busy[0].fetch_add(1, Ordering::AcqRel) + 1;
            busy[1].fetch_max(now, Ordering::AcqRel);
            tokio::time::sleep(Duration::from_millis(5)).await;
            busy[0].fetch_sub(1, Ordering::AcqRel);
            Ok(())
        };
        self.docker.calls.ask(&Pending::default(), Kind::Create, client, call).await.expect("answered");
    }
}

#[tokio::test]
async fn a_crowd_of_calls_comes_to_the_engine_in_small_groups() {
    let bench = Bench::new();
    let process = bench.process();
    let client = bench.docker.engine.client().await.expect("connected");
    futures::future::join_all((0..100).map(|_| bench.call(&client))).await;
    process.end().await;
    assert_eq!(bench.busy[1].load(Ordering::Acquire), 8);
}

#[tokio::test]
async fn a_start_that_hangs_is_told_of_and_its_answer_is_not_lost() {
    let bench = Bench::new();
    let process = bench.process();
    let id = bench.docker.create(&bench.spec()).await.expect("created");
    let hung = bench.docker.start(&id).await.expect_err("it hangs");
    assert!(hung.is_transient() && hung.to_string().contains("start a container"), "{hung}");
    let note = bench.docker.describe().await.expect_err("it is not well, although it answers pings");
    assert!(note.to_string().contains("restart docker"), "{note}");
    // A new process of the engine: the call broke, and is made again.
    bench.hang.store(false, Ordering::Release);
    process.end().await;
    let process = bench.process();
    bench.docker.describe().await.expect("well again");
    let mut started = bench.docker.start(&id).await;
    while started.as_ref().is_err_and(Error::is_transient) {
        started = bench.docker.start(&id).await;
    }
    started.expect("started");
    process.end().await;
}

#[tokio::test]
async fn an_engine_that_hangs_for_one_container_alone_is_found_well_by_a_trial() {
    let bench = Bench::new();
    let process = bench.process();
    let id = bench.docker.create(&bench.spec()).await.expect("created");
    bench.docker.start(&id).await.expect_err("it hangs");
    bench.hang.store(false, Ordering::Release);
    while bench.docker.describe().await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let other = ContainerId("c2".to_owned());
    bench.docker.remove(&other).await.expect("others are served");
    process.end().await;
}

#[tokio::test]
async fn who_waits_for_a_place_is_told_that_the_engine_hangs() {
    let bench = Bench::new();
    let process = bench.process();
    let client = bench.docker.engine.client().await.expect("connected");
    let calls = Calls::new(NonZeroU32::MIN, PATIENCE);
    let hung =
        || async { calls.ask(&Pending::<()>::default(), Kind::Start, &client, std::future::pending()).await };
    assert!(hung().await.is_err_and(|error| error.is_transient()));
    let noted = calls.health.subscribe().wait_for(|health| health.hangs() == Some(Kind::Start)).await.is_ok();
    assert!(noted);
    // It gave its place to the next one, which hangs too; who comes then does not wait for it.
    let patient = Pending::default();
    let (_, told) = tokio::join!(hung(), async {
        let begun = Instant::now();
        let told = calls.ask(&patient, Kind::Create, &client, async { Ok(()) }).await;
        (told, begun.elapsed())
    });
    assert!(told.0.is_err_and(|error| error.is_transient()) && told.1 < PATIENCE, "{:?}", told.1);
    // One that was begun later is answered: it is not the engine that hangs.
    while calls.ask(&patient, Kind::Start, &client, async { Ok(()) }).await.is_err() {
        tokio::time::sleep(PATIENCE / 10).await;
    }
    assert_eq!(calls.hangs(), None);
    process.end().await;
}
