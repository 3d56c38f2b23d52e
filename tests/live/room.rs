//! Disks of a node that get full: images go first, then claims stop, and what runs lives.

use longshore_proto::v1::{JobState, Stream};
use longshore_tests::env::{
    Client, Cluster, Plan, Registry, agent_name, docker, docker_output, fresh_dir, image, image_with,
    outcome, registry, shell, until,
};
use std::{fs, process::Command};

/// Pushes an image of its own, and leaves nothing of it here.
fn pushed(registry: &Registry, name: &str) -> String {
    let built = image_with(&format!("room-{name}"), &format!("ENV ROOM={name}"));
    let reference = registry.push(&built, &format!("{name}:1"));
    docker(&["rmi", &built, &reference]);
    assert!(!is_here(&reference));
    reference
}

fn is_here(image: &str) -> bool {
    docker_output(&["image", "inspect", image]).status.success()
}

async fn until_said(cluster: &Cluster, words: &str) {
    let cli = cluster.cli();
    until(&format!("the agent says: {words}"), || async {
        let shown = cli.call(&["agents", "show", &agent_name(0)]).text();
        if shown.contains(words) { Ok(()) } else { Err(shown) }
    })
    .await;
}

#[tokio::test]
async fn images_that_the_agent_brought_go_when_the_disk_is_short_and_nobody_elses() {
    let own = Registry::start();
    let [brought, used, theirs, shared] =
        ["brought", "used", "theirs", "shared"].map(|name| pushed(&own, name));
    Command::new("docker")
        .env("DOCKER_CONFIG", own.login_dir())
        .args(["pull", "-q", &theirs])
        .output()
        .expect("somebody pulls an image by hand");
    // More than any disk has: it is short from the start.
    let plan = Plan::default().login(&own).agent("[images]\nroom_bytes = 1152921504606846976\n");
    let cluster = plan.start();
    let client = Client::connect(&cluster).await;
    let running = client.submit(shell(&used, "sleep 30")).await;
    client.reaches(&running, JobState::Running).await;
    let named = client.submit(shell(&shared, "sleep 5")).await;
    client.reaches(&named, JobState::Running).await;
    let name = format!("longshore-test/room-mine:{}", longshore_tests::env::run_id());
    docker(&["tag", &shared, &name]);
    assert_eq!(outcome(&client.ended(&named).await), "succeeded");
    for image in [&theirs, &brought] {
        assert_eq!(outcome(&client.run(shell(image, "true")).await), "succeeded");
    }
    until("the image goes", || async { if is_here(&brought) { Err("it is here") } else { Ok(()) } }).await;
    until("our name of it goes", || async { if is_here(&shared) { Err("it is here") } else { Ok(()) } })
        .await;
    until_said(&cluster, "removed").await;
    assert!(is_here(&used), "a container is made of it");
    assert!(is_here(&theirs), "somebody else brought it");
    assert!(is_here(&name), "somebody gave it a name of their own");
    assert_eq!(outcome(&client.run(shell(&brought, "true")).await), "succeeded", "it is brought again");
    assert_eq!(outcome(&client.ended(&running).await), "succeeded");
    for image in [&theirs, &name, &used] {
        docker_output(&["rmi", image]);
    }
}

#[tokio::test]
async fn an_image_that_no_job_used_for_long_goes() {
    let own = Registry::start();
    let brought = pushed(&own, "old");
    let plan = Plan::default().login(&own).agent("[images]\nroom_bytes = 0\nunused_seconds = 2\n");
    let mut cluster = plan.start();
    let client = Client::connect(&cluster).await;
    assert_eq!(outcome(&client.run(shell(&brought, "true")).await), "succeeded");
    // The next process knows it too.
    cluster.kill_agent(0);
    cluster.start_agent(0);
    until("the image goes", || async { if is_here(&brought) { Err("it is here") } else { Ok(()) } }).await;
}

#[tokio::test]
async fn a_full_disk_of_an_agent_stops_claims_and_what_runs_lives() {
    let data = fresh_dir("small-agent");
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64m", "small"]).arg(&data).status();
    assert!(mount.expect("run mount").success(), "a small disk takes root to mount");
    let capacity = "[capacity]\ncpu_millis = 16000\nscratch_bytes = 1073741824\ndisk_floor_bytes = 8388608\n";
    let cluster = Plan::default().agent_alone(capacity).login(registry()).agent_data(data.clone()).start();
    let client = Client::connect(&cluster).await;
    let running = client.submit(shell(&image(), "echo before; sleep 20; echo after; exit 3")).await;
    client.prints(&running, "before").await;
    let ballast = data.join("ballast");
    // Writes until there is no room left; the error is the aim.
    fs::write(&ballast, vec![0; 96 << 20]).expect_err("the disk is full");
    until_said(&cluster, "is full").await;
    let listed = cluster.cli().call(&["agents", "ls", "-o", "wide"]).expect(0).text();
    assert!(listed.contains("is full"), "{listed}");
    let waiting = client.submit(shell(&image(), "true")).await;
    let ended = client.ended(&running).await;
    assert_eq!((outcome(&ended).as_str(), ended.attempts), ("exit_code", 1), "{ended:?}");
    let printed = client.printed(&running, Stream::Stdout).await;
    let said = client.printed(&running, Stream::System).await;
    let (printed, said) = (String::from_utf8_lossy(&printed), String::from_utf8_lossy(&said));
    assert!(printed == "before\nafter\n" || said.contains("gap:"), "{printed}{said}");
    let state = client.get(&waiting).await.job.expect("an answer holds the job").state();
    assert_eq!(state, JobState::Queued, "nothing is claimed");
    fs::remove_file(&ballast).expect("make room");
    assert_eq!(outcome(&client.ended(&waiting).await), "succeeded");
}
