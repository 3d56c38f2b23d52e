//! The monitor over engines that answer badly, and engines that are replaced.

use super::*;
use crate::runtime::docker::live::Containers;
use axum::{
    Router,
    body::Body,
    extract::State,
    http::{StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use std::{collections::VecDeque, path::Path, sync::Mutex};
use tokio::{runtime::Runtime, sync::mpsc};

/// What a process of the engine answers about the one container.
struct Answers {
    /// The wait is answered; otherwise it lasts as long as the process.
    ended: bool,
    /// Looks that fail with 500 before one is answered.
    failures: Mutex<VecDeque<&'static str>>,
    /// Told of each wait.
    waits: mpsc::UnboundedSender<()>,
    live_restore: bool,
}

async fn answer(State(answers): State<Arc<Answers>>, uri: Uri) -> Response {
    let json = |text: String| ([("content-type", "application/json")], text).into_response();
    let path = uri.path();
    if path.ends_with("/version") {
        return json(r#"{"ApiVersion":"1.41"}"#.to_owned());
    }
    if path.ends_with("/info") {
        return json(format!(r#"{{"LiveRestoreEnabled":{}}}"#, answers.live_restore));
    }
    if path.ends_with("/wait") {
        answers.waits.send(()).expect("the test waits");
        if answers.ended {
            return json(r#"{"StatusCode":0}"#.to_owned());
        }
        return Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>())
            .into_response();
    }
    if path.ends_with("/events") {
        return Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>())
            .into_response();
    }
    if let Some(failure) = answers.failures.lock().expect("no panic").pop_front() {
        return (StatusCode::INTERNAL_SERVER_ERROR, format!(r#"{{"message":"{failure}"}}"#)).into_response();
    }
    let now = Timestamp::now();
    let now = format!("{}.{:06}Z", now.to_rfc3339().trim_end_matches('Z'), now.as_micros() % 1_000_000);
    json(format!(
        r#"{{"State":{{"Status":"exited","Running":false,"ExitCode":0,"StartedAt":"{now}","FinishedAt":"{now}"}}}}"#
    ))
}

/// A process of the engine: dropped, all its connections break.
struct Process(Option<Runtime>);

impl Process {
    fn start(socket: &Path, answers: Answers) -> Self {
        // Left by the one before.
        drop(std::fs::remove_file(socket));
        let listener = std::os::unix::net::UnixListener::bind(socket).expect("bound");
        listener.set_nonblocking(true).expect("set");
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("made");
        let router = Router::new().fallback(answer).with_state(Arc::new(answers));
        runtime.spawn(async move {
            let listener = tokio::net::UnixListener::from_std(listener).expect("has a reactor");
            axum::serve(listener, router).await
        });
        Self(Some(runtime))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

struct Bench {
    home: tempfile::TempDir,
    engine: Arc<Engine>,
    container: ContainerId,
    live: Arc<Live>,
    waits: mpsc::UnboundedReceiver<()>,
    waited: mpsc::UnboundedSender<()>,
}

impl Bench {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let engine = Engine::new(Some(format!("unix://{}/engine.sock", home.path().display())));
        let container = ContainerId("c1".to_owned());
        let (waited, waits) = mpsc::unbounded_channel();
        let live = Containers::default().get(&container);
        Self { home, engine: Arc::new(engine), container, live, waits, waited }
    }

    fn process(&self, ended: bool, live_restore: bool, failures: &[&'static str]) -> Process {
        let failures = Mutex::new(failures.iter().copied().collect());
        let answers = Answers { ended, failures, waits: self.waited.clone(), live_restore };
        Process::start(&self.home.path().join("engine.sock"), answers)
    }

    fn begin(&self) {
        begin(&self.engine, &self.container, &self.live);
    }

    /// How a container ends whose engine is another process when it is back.
    async fn replaced(live_restore: bool) -> Exit {
        let mut bench = Self::new();
        let first = bench.process(false, live_restore, &[]);
        bench.begin();
        bench.waits.recv().await.expect("it waits");
        tokio::task::spawn_blocking(move || drop(first)).await.expect("it ended");
        let second = bench.process(true, live_restore, &[]);
        let exit = bench.live.end().await.expect("an exit");
        tokio::task::spawn_blocking(move || drop(second)).await.expect("it ended");
        exit
    }
}

#[tokio::test]
async fn an_engine_that_answers_500_after_the_exit_was_not_restarted() {
    let bench = Bench::new();
    let process = bench.process(true, false, &["busy", "busy"]);
    bench.begin();
    let exit = bench.live.end().await.expect("an exit");
    tokio::task::spawn_blocking(move || drop(process)).await.expect("it ended");
    assert_eq!((exit.code, exit.engine_restarted), (0, false));
}

#[tokio::test]
async fn an_engine_that_is_another_process_took_its_container_along() {
    let exit = Bench::replaced(false).await;
    assert_eq!((exit.code, exit.engine_restarted), (0, true));
}

#[tokio::test]
async fn an_engine_with_live_restore_leaves_its_container() {
    assert!(!Bench::replaced(true).await.engine_restarted);
}

#[test]
fn only_an_end_in_the_absence_of_the_engine_is_its_restart() {
    let at = Timestamp::from_micros;
    let case = |changed, live_restore, finished| {
        Absence {
            changed,
            live_restore,
            last_contact: at(10),
            finished_at: at(finished),
            returned_at: at(20),
        }
        .explains_end()
    };
    let table = [
        // (another process, live-restore, finished at) -> restart
        ((true, false, 15), true),
        ((true, false, 10), true),
        ((true, false, 20), true),
        // It had ended before, and the engine was still well.
        ((true, false, 9), false),
        ((true, false, 21), false),
        // Containers outlive it.
        ((true, true, 15), false),
        // Slow, or answering errors, but the same.
        ((false, false, 15), false),
        ((false, true, 15), false),
    ];
    for ((changed, live_restore, finished), restart) in table {
        assert_eq!(case(changed, live_restore, finished), restart, "{changed} {live_restore} {finished}");
    }
}
