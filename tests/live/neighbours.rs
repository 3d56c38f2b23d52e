//! Two clusters whose agents share an engine, one of them killed: the other's containers, network and files are none
//! of its business.

use longshore_proto::v1::{JobState, Stream};
use longshore_tests::env::{
    Client, Cluster, PATIENCE, agent_name, docker, embedded, fresh_dir, image, outcome, shell, until,
};
use std::{fs, path::PathBuf};

/// Runs until it is told to end, from outside.
const SCRIPT: &str = "echo before; echo kept >/out/a; until [ -e /out/go ]; do sleep 1; done; echo after";

struct Side {
    cluster: Cluster,
    client: Client,
    attempts: PathBuf,
    job: String,
    container: String,
}

async fn side() -> Side {
    let data = fresh_dir("agents");
    let cluster = embedded().agent_data(data.clone()).start();
    let client = Client::connect(&cluster).await;
    let job = client.submit(shell(&image(), SCRIPT)).await;
    client.reaches(&job, JobState::Running).await;
    client.prints(&job, "before").await;
    let uuid = client.get(&job).await.job.expect("a job").uuid;
    let container = docker(&["ps", "-q", "--no-trunc", "--filter", &format!("label=longshore.job={uuid}")]);
    Side { cluster, client, attempts: data.join(agent_name(0)).join("attempts"), job, container }
}

/// What the engine has of it, with the start of its process.
fn seen(container: &str) -> String {
    let format = "{{.Id}} {{.State.Running}} {{.State.StartedAt}} {{range $name, $net := .NetworkSettings.Networks}}\
                  {{$name}} {{$net.NetworkID}} {{$net.IPAddress}}{{end}}";
    docker(&["inspect", "-f", format, container])
}

fn network_of(container: &str) -> String {
    let format = "{{range .NetworkSettings.Networks}}{{.NetworkID}}{{end}}";
    docker(&["inspect", "-f", format, container])
}

async fn finishes(side: &Side) {
    docker(&["exec", &side.container, "touch", "/out/go"]);
    let job = side.client.ended(&side.job).await;
    assert_eq!((outcome(&job).as_str(), job.attempts), ("succeeded", 1), "{job:?}");
    assert_eq!(side.client.printed(&side.job, Stream::Stdout).await, b"before\nafter\n");
    assert_eq!(side.client.artifacts(&side.job).await.len(), 2);
}

#[tokio::test]
async fn an_agent_that_is_killed_and_sweeps_leaves_its_neighbours_job_alone() {
    let (mut one, other) = (side().await, side().await);
    let (before, network) = (seen(&other.container), network_of(&other.container));
    assert_ne!(network_of(&one.container), network, "each agent has a network of its own");
    let kept = fs::read(other.attempts.join(format!("{}.1/disk/out/a", other.job))).expect("its file");
    // What it must sweep shows that it did.
    let orphan = one.attempts.join("nobody.1");
    fs::create_dir(&orphan).expect("make a folder nobody holds");
    one.cluster.kill_agent(0);
    let mine = seen(&one.container);
    one.cluster.start_agent(0);
    one.client.prints(&one.job, "took the container over").await;
    until("the sweep has been", || async { if orphan.exists() { Err(()) } else { Ok(()) } }).await;
    assert_eq!((seen(&one.container), seen(&other.container)), (mine, before), "both run on as they did");
    assert_eq!(fs::read(other.attempts.join(format!("{}.1/disk/out/a", other.job))).expect("there"), kept);
    // A job more on each, for which the networks must be whole.
    for side in [&one, &other] {
        let more = side.client.run(shell(&image(), "echo more")).await;
        assert_eq!(outcome(&more), "succeeded", "{more:?}");
    }
    finishes(&one).await;
    finishes(&other).await;
    one.cluster.agent(0).terminate(PATIENCE);
    docker(&["network", "inspect", &network]);
}
