//! The Docker Engine goes away: while idle and under a running job. On an engine of the test's own.

use longshore_proto::v1::{JobSpec, JobState, LogRecord, NetworkMode, Stream};
use longshore_tests::env::{Client, Cluster, Engine, agent_name, embedded, image, outcome, shell, until};

fn start() -> (Engine, Cluster) {
    start_on(Engine::start())
}

fn start_on(engine: Engine) -> (Engine, Cluster) {
    engine.load(&image());
    let cluster = embedded()
        .agent("[runtime.network]\nfirewall = \"best-effort\"\n")
        .environment("DOCKER_HOST", &engine.host())
        .start();
    (engine, cluster)
}

/// An engine whose containers outlive it.
async fn with_live_restore() -> Engine {
    let mut engine = Engine::start();
    engine.stop();
    engine.start_again(true);
    until("the engine answers", || async { if engine.answers() { Ok(()) } else { Err("not yet") } }).await;
    engine
}

/// The private engine has no network.
fn job(script: &str) -> JobSpec {
    let mut spec = shell(&image(), script);
    spec.network = NetworkMode::None.into();
    spec
}

#[tokio::test]
async fn an_engine_that_stops_while_idle_is_waited_for() {
    let (mut engine, cluster) = start();
    let client = Client::connect(&cluster).await;
    assert_eq!(outcome(&client.run(job("true")).await), "succeeded");
    engine.stop();
    let cli = cluster.cli();
    until("the agent says that its engine is away", || async {
        let shown = cli.call(&["agents", "show", &agent_name(0)]).text();
        if shown.contains("engine") && shown.contains("unreachable") { Ok(()) } else { Err(shown) }
    })
    .await;
    let id = client.submit(job("true")).await;
    engine.restart();
    assert_eq!(outcome(&client.ended(&id).await), "succeeded");
}

#[tokio::test]
async fn an_engine_that_takes_its_container_along_is_not_the_jobs_exit() {
    let (mut engine, cluster) = start();
    let client = Client::connect(&cluster).await;
    // The trap would make a stopping engine look like success.
    let mut spec = job("trap 'exit 0' TERM; while :; do sleep 1; done");
    spec.retry.get_or_insert_default().attempts = 1;
    let id = client.submit(spec).await;
    client.reaches(&id, JobState::Running).await;
    engine.stop();
    engine.restart();
    let ended = client.ended(&id).await;
    assert_eq!(outcome(&ended), "engine_restart", "{ended:?}");
}

#[tokio::test]
async fn an_engine_that_takes_its_container_along_while_the_agent_is_dead_is_not_the_jobs_exit() {
    let (mut engine, mut cluster) = start();
    let client = Client::connect(&cluster).await;
    let mut spec = job("trap 'exit 0' TERM; echo up; while :; do sleep 1; done");
    spec.retry.get_or_insert_default().attempts = 1;
    let id = client.submit(spec).await;
    client.prints(&id, "up\n").await;
    cluster.kill_agent(0);
    engine.stop();
    engine.restart();
    cluster.start_agent(0);
    let ended = client.ended(&id).await;
    assert_eq!(outcome(&ended), "engine_restart", "{ended:?}");
}

#[tokio::test]
async fn a_log_over_the_death_of_an_engine_repeats_nothing_and_marks_its_hole() {
    let (mut engine, cluster) = start_on(with_live_restore().await);
    let client = Client::connect(&cluster).await;
    let id = client.submit(job(NUMBERS)).await;
    client.prints(&id, "100\n").await;
    engine.start_again(true);
    has_one_hole(&client, &id).await;
}

#[tokio::test]
async fn a_log_over_the_death_of_engine_and_agent_repeats_nothing_and_marks_its_hole() {
    let (mut engine, mut cluster) = start_on(with_live_restore().await);
    let client = Client::connect(&cluster).await;
    let id = client.submit(job(NUMBERS)).await;
    client.prints(&id, "100\n").await;
    engine.kill();
    cluster.kill_agent(0);
    engine.start_again(true);
    cluster.start_agent(0);
    client.prints(&id, "gap: ").await;
    // Its note says what was dealt with: the same hole is not told of again.
    cluster.kill_agent(0);
    cluster.start_agent(0);
    has_one_hole(&client, &id).await;
}

const NUMBERS: &str = "i=0; while [ $i -lt 500 ]; do i=$((i + 1)); echo $i; sleep 0.05; done";

async fn has_one_hole(client: &Client, id: &str) {
    let ended = client.ended(id).await;
    assert_eq!((outcome(&ended).as_str(), ended.attempts), ("succeeded", 1), "{ended:?}");
    assert_eq!(holes(&client.records(id).await.expect("the log is there")), 1, "gap records");
}

/// The gap records of a log of numbered lines to 500. Panics where a line comes twice, and where some are missing and no
/// gap record stands.
fn holes(records: &[LogRecord]) -> usize {
    let (mut gaps, mut last, mut excused, mut line) = (0, 0, false, Vec::new());
    for record in records {
        if record.stream() == Stream::System {
            let gap = record.data.starts_with(b"gap: ");
            gaps += usize::from(gap);
            excused |= gap;
            continue;
        }
        for byte in &record.data {
            if *byte != b'\n' {
                line.push(*byte);
                continue;
            }
            let number: u32 = String::from_utf8_lossy(&line).parse().expect("a numbered line");
            assert!(number > last, "{number} after {last}");
            assert!(number == last + 1 || excused, "{number} after {last}, and no gap record between them");
            (last, excused) = (number, false);
            line.clear();
        }
    }
    assert_eq!(last, 500);
    gaps
}
