//! The monitor over engines that answer badly, and engines that are replaced.

use super::*;
use crate::runtime::docker::{live::Containers, play::Process};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc;

struct Bench {
    home: tempfile::TempDir,
    engine: Arc<Engine>,
    container: ContainerId,
    live: Arc<Live>,
    waits: mpsc::UnboundedReceiver<()>,
    waited: mpsc::UnboundedSender<()>,
}

/// What a process of the engine answers about the one container.
#[derive(Clone, Copy)]
struct Answers {
    /// The wait is answered; otherwise it lasts as long as the process.
    ended: bool,
    /// Looks that fail with 500 before one is answered.
    failures: usize,
    live_restore: bool,
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

    fn process(&self, answers: Answers) -> Process {
        let (waited, looks) = (self.waited.clone(), AtomicUsize::new(0));
        Process::start(&self.home.path().join("engine.sock"), move |_, path| {
            if path.ends_with("/info") {
                return Some((200, format!(r#"{{"LiveRestoreEnabled":{}}}"#, answers.live_restore)));
            }
            if path.ends_with("/wait") {
                waited.send(()).expect("the test waits");
                return answers.ended.then(|| (200, r#"{"StatusCode":0}"#.to_owned()));
            }
            let failed = looks.fetch_add(1, Ordering::AcqRel) < answers.failures;
            Some(if failed { (500, r#"{"message":"busy"}"#.to_owned()) } else { (200, ended_now()) })
        })
    }

    fn begin(&self) {
        begin(&self.engine, &self.container, &self.live);
    }
}

fn ended_now() -> String {
    let now = Timestamp::now();
    let now = format!("{}.{:06}Z", now.to_rfc3339().trim_end_matches('Z'), now.as_micros() % 1_000_000);
    let state = format!(r#""Running":false,"ExitCode":0,"StartedAt":"{now}","FinishedAt":"{now}""#);
    format!(r#"{{"State":{{"Status":"exited",{state}}}}}"#)
}

/// How a container ends whose engine is another process when it is back.
async fn replaced(live_restore: bool) -> Exit {
    let mut bench = Bench::new();
    let first = bench.process(Answers { ended: false, failures: 0, live_restore });
    bench.begin();
    bench.waits.recv().await.expect("it waits");
    first.end().await;
    let second = bench.process(Answers { ended: true, failures: 0, live_restore });
    let exit = bench.live.end().await.expect("an exit");
    second.end().await;
    exit
}

#[tokio::test]
async fn an_engine_that_answers_500_after_the_exit_was_not_restarted() {
    let bench = Bench::new();
    let process = bench.process(Answers { ended: true, failures: 2, live_restore: false });
    bench.begin();
    let exit = bench.live.end().await.expect("an exit");
    process.end().await;
    assert_eq!((exit.code, exit.engine_restarted), (0, false));
}

#[tokio::test]
async fn an_engine_that_is_another_process_took_its_container_along() {
    let exit = replaced(false).await;
    assert_eq!((exit.code, exit.engine_restarted), (0, true));
}

#[tokio::test]
async fn an_engine_with_live_restore_leaves_its_container() {
    assert!(!replaced(true).await.engine_restarted);
}
