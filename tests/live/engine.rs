//! The Docker Engine goes away: while idle and under a running job. On an engine of the test's own.

use longshore_proto::v1::{JobSpec, JobState, NetworkMode};
use longshore_tests::env::{Client, Cluster, Engine, agent_name, embedded, image, outcome, shell, until};

fn start() -> (Engine, Cluster) {
    let engine = Engine::start();
    engine.load(&image());
    let cluster = embedded()
        .agent("[runtime.network]\nfirewall = \"best-effort\"\n")
        .environment("DOCKER_HOST", &engine.host())
        .start();
    (engine, cluster)
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
