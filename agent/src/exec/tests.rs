use super::session::{Bounds, Session};
use crate::{
    attempt::{Held, Open},
    link,
    logs::Masker,
    runtime::{ContainerId, ContainerSpec, ImageId, Runtime as _, Scratch, SecretMounts, fake::Fake},
    shares::Pins,
};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use longshore_common::{
    exec::{Asked, End, Size, Start, Told},
    ids::{AgentId, AttemptRef, ClusterId, Epoch, JobId, ShortId},
    job::{NetworkMode, Resources, Security},
};
use std::{path::Path, sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;

const PATIENCE: Duration = Duration::from_secs(30);

/// A container that runs, and a caller.
struct Rig {
    runtime: Arc<Fake>,
    container: ContainerId,
    held: Held,
    attempt: AttemptRef,
    holding: crate::attempt::Holding,
    asks: mpsc::Sender<Asked>,
    told: mpsc::Receiver<Told>,
    session: tokio::task::JoinHandle<End>,
    logged: String,
}

impl Rig {
    async fn start(start: Start) -> Self {
        Self::bounded(start, Bounds { idle: PATIENCE, longest: PATIENCE }).await
    }

    async fn bounded(start: Start, bounds: Bounds) -> Self {
        let runtime = Arc::new(Fake::bare());
        let attempt = AttemptRef { job: JobId::new(), number: 1, epoch: Epoch(1) };
        let container = running(&runtime, attempt).await;
        let held = Held::default();
        let (mut holding, _signal) = held.admit(attempt, PATIENCE, Instant::now()).expect("free");
        holding.opens(&container, Masker::new([&b"hunter22"[..]]));
        let open: Open = held.open(&attempt).expect("it runs");
        let (asks, asked) = mpsc::channel(4);
        let (up, told) = mpsc::channel(4);
        asks.send(Asked::Start(start)).await.expect("room");
        let engine = Arc::clone(&runtime);
        let mut down = ReceiverStream::new(asked).map(Ok::<_, link::Error>).chain(stream::pending()).boxed();
        let session = longshore_common::tasks::spawn("session", async move {
            Session { runtime: &*engine, open, up, bounds }.run(&mut down).await
        });
        let logged = tokio::time::timeout(PATIENCE, holding.line()).await.expect("a line");
        Self { runtime, container, held, attempt, holding, asks, told, session, logged }
    }

    /// What it said on stdout and stderr, and how it ended.
    async fn end(&mut self) -> (String, String, End) {
        let mut said = [Vec::new(), Vec::new()];
        while let Some(told) = tokio::time::timeout(PATIENCE, self.told.recv()).await.expect("in time") {
            match told {
                Told::Stdout(data) => said[0].extend_from_slice(&data),
                Told::Stderr(data) => said[1].extend_from_slice(&data),
                Told::Started | Told::End(_) => {}
            }
        }
        let [stdout, stderr] = said.map(|said| String::from_utf8_lossy(&said).into_owned());
        (stdout, stderr, (&mut self.session).await.expect("no panic"))
    }
}

async fn running(runtime: &Fake, attempt: AttemptRef) -> ContainerId {
    let spec = ContainerSpec {
        files_in_memory: false,
        attempt,
        short_id: ShortId::random(),
        cluster: ClusterId::new(),
        agent: AgentId::new(),
        image: ImageId("x".to_owned()),
        image_name: "x".to_owned(),
        entrypoint: None,
        command: None,
        workdir: None,
        user: None,
        env: [("FAKE_RUN".to_owned(), "forever".to_owned())].into(),
        resources: Resources::default(),
        gpus: Vec::new(),
        network: NetworkMode::None,
        security: Security::default(),
        stop_grace: Duration::ZERO,
        scratch: Scratch::within(Path::new("/nowhere"), std::collections::BTreeMap::new()),
        secrets: SecretMounts::default(),
        shares: Pins::default(),
        caches: std::collections::BTreeMap::new(),
    };
    let container = runtime.create(&spec).await.expect("made");
    drop(runtime.start(&container).await.expect("started"));
    container
}

fn start(words: &[&str]) -> Start {
    let command = words.iter().map(|word| (*word).to_owned()).collect();
    Start { command, by: "anna".to_owned(), ..Start::default() }
}

#[tokio::test]
async fn output_and_code_come_back_and_the_log_has_one_line() {
    let mut rig = Rig::start(start(&["complain", "no", "hunter22"])).await;
    assert_eq!(rig.logged, "exec by anna: complain no ***");
    let (stdout, stderr, end) = rig.end().await;
    assert_eq!((stdout.as_str(), stderr.as_str(), end.code), ("", "no ***\n", 0));
    let mut rig = Rig::start(start(&["exit", "7"])).await;
    assert_eq!(rig.end().await.2, End { code: 7, reason: String::new() });
}

#[tokio::test]
async fn input_goes_in_with_backpressure_and_its_end_is_an_end() {
    let mut rig = Rig::start(Start { stdin: true, ..start(&["cat"]) }).await;
    let asks = rig.asks.clone();
    let piece = Bytes::from(vec![b'x'; 40_000]);
    let feeding = longshore_common::tasks::spawn("feed", async move {
        for _ in 0..100 {
            asks.send(Asked::Stdin(piece.clone())).await.expect("it reads");
        }
        asks.send(Asked::StdinEnd).await.expect("it reads");
    });
    let (stdout, _, end) = rig.end().await;
    feeding.await.expect("fed");
    assert_eq!((stdout.len(), end.code), (4_000_000, 0));
    // Without `-i` there is none to read.
    let mut rig = Rig::start(start(&["cat"])).await;
    assert_eq!(rig.end().await.2.code, 0);
}

#[tokio::test]
async fn a_caller_that_goes_leaves_no_process() {
    let mut rig = Rig::start(start(&["hang"])).await;
    rig.asks.send(Asked::HangUp).await.expect("room");
    let end = rig.end().await.2;
    assert_eq!((end.code, end.reason.as_str()), (125, "whoever asked has gone"));
    gone(&rig.runtime).await;
    // Nobody takes what it says any more.
    let mut rig = Rig::start(start(&["hang"])).await;
    rig.told.close();
    assert_eq!((&mut rig.session).await.expect("no panic").code, 125);
    gone(&rig.runtime).await;
}

async fn gone(runtime: &Fake) {
    let left = async {
        while runtime.processes() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, left).await.expect("nothing is left");
}

#[tokio::test]
async fn a_stop_and_the_containers_end_end_it() {
    let mut rig = Rig::start(start(&["hang"])).await;
    rig.held.stop(&rig.attempt, crate::attempt::Cause::Cancelled("cancelled by bob".to_owned()));
    let end = rig.end().await.2;
    assert!(end.code == 125 && end.reason.contains("cancelled by bob"), "{end:?}");
    let mut rig = Rig::start(start(&["hang"])).await;
    rig.runtime.stop(&rig.container, Duration::ZERO).await.expect("stopped");
    rig.holding.ended();
    let end = rig.end().await.2;
    assert!(end.code == 125 && end.reason.contains("container has ended"), "{end:?}");
    assert!(rig.held.open(&rig.attempt).is_err(), "it is not entered again");
}

#[tokio::test(start_paused = true)]
async fn a_session_in_which_nothing_moves_ends_and_so_does_a_long_one() {
    let short = Duration::from_secs(2);
    let mut idle = Rig::bounded(start(&["hang"]), Bounds { idle: short, longest: 10 * short }).await;
    assert!(idle.end().await.2.reason.contains("nothing moved for 2s"));
    let long = Bounds { idle: 10 * short, longest: short };
    let mut long = Rig::bounded(start(&["hang"]), long).await;
    assert!(long.end().await.2.reason.contains("at most 2s"));
}

#[tokio::test]
async fn a_terminal_hears_of_its_size() {
    let size = |columns| Size { columns, rows: 24 };
    let mut rig = Rig::start(Start { tty: true, size: Some(size(80)), ..start(&["size"]) }).await;
    let mut said = Vec::new();
    let mut resized = false;
    while !said.ends_with(b"120x24\n") {
        if let Told::Stdout(data) = rig.told.recv().await.expect("it goes on") {
            said.extend_from_slice(&data);
        }
        if !std::mem::replace(&mut resized, true) {
            rig.asks.send(Asked::Resize(size(120))).await.expect("room");
        }
    }
}

#[tokio::test]
async fn what_may_be_a_secret_is_shown_when_it_turns_out_to_be_none() {
    let mut rig = Rig::start(Start { stdin: true, ..start(&["cat"]) }).await;
    for piece in ["say hun", "ter22", " hunt"] {
        rig.asks.send(Asked::Stdin(Bytes::from(piece))).await.expect("room");
    }
    let mut said = String::new();
    while said != "say *** hunt" {
        let told = tokio::time::timeout(PATIENCE, rig.told.recv()).await.expect("in time");
        if let Told::Stdout(data) = told.expect("it goes on") {
            said.push_str(&String::from_utf8_lossy(&data));
        }
        assert!("say *** hunt".starts_with(&said), "{said}");
    }
}
