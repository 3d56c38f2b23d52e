//! Where an image is already, with real pulls: two agents on two engines, one of which has brought it.

use longshore_proto::v1::{JobSpec, NetworkMode};
use longshore_tests::env::{
    Client, Engine, docker_output, embedded, fresh_dir, image, outcome, registry, shell, until, words,
};
use std::os::unix::fs::symlink;

/// Jobs one after the other, while both machines are free.
const JOBS: usize = 10;

#[tokio::test]
async fn a_job_goes_to_the_machine_that_has_pulled_its_image() {
    let engine = Engine::start();
    engine.load(&image());
    let folder = fresh_dir("engines");
    symlink("/var/run/docker.sock", folder.join("0.sock")).expect("name the machine's engine");
    let private = engine.host();
    symlink(private.trim_start_matches("unix://"), folder.join("1.sock")).expect("name the other");
    let cluster = embedded()
        .agents(2)
        .agent("[runtime.network]\nfirewall = \"best-effort\"\n")
        .environment("DOCKER_HOST", &format!("unix://{}/{{seat}}.sock", folder.display()))
        .start();
    let client = Client::connect(&cluster).await;
    let reference = registry().push(&image(), "locality:1");
    docker_output(&["rmi", &reference]);
    // The private engine has no network, not even to pull.
    let job = || JobSpec { network: NetworkMode::None.into(), ..shell(&reference, "true") };
    let pinned = JobSpec { agents: [("seat".to_owned(), words(&["0"]))].into(), ..job() };
    assert_eq!(outcome(&client.run(pinned).await), "succeeded");
    let cli = cluster.cli();
    until("the agent has told of the image", || async {
        let told = cli.call(&["run", "--dry-run", "--network", "none", &reference, "true"]);
        let told = told.text() + &told.stderr;
        if told.contains("agent-0 has the image") { Ok(()) } else { Err(told) }
    })
    .await;
    for _ in 0..JOBS {
        let job = client.run(job()).await;
        assert_eq!((outcome(&job).as_str(), job.agent.as_str()), ("succeeded", "agent-0"), "{job:?}");
    }
}
