//! Processes killed with SIGKILL while jobs run. Nothing is lost, nothing runs twice.

use longshore_proto::v1::{CancelJobsRequest, Deadlines, JobState, Stream};
use longshore_tests::env::{
    Client, PATIENCE, Plan, Registry, docker, docker_output, embedded, image, image_with, on_servers,
    outcome, seconds, shell, until,
};

#[tokio::test]
async fn a_job_outlives_its_controller_embedded() {
    controller_killed(embedded()).await;
}

#[tokio::test]
async fn a_job_outlives_its_controller_on_servers() {
    controller_killed(on_servers()).await;
}

async fn controller_killed(plan: Plan) {
    let mut cluster = plan.start();
    let client = Client::connect(&cluster).await;
    let script = "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 1; done; echo kept >/out/a";
    let id = client.submit(shell(&image(), script)).await;
    client.reaches(&id, JobState::Running).await;
    let mut follower = cluster.cli().command(&["logs", "-f", &id]);
    let follower = follower.stdout(std::process::Stdio::piped()).spawn().expect("follow the log");
    cluster.kill_controller();
    cluster.start_controller();
    let job = client.ended(&id).await;
    assert_eq!((outcome(&job).as_str(), job.attempts), ("succeeded", 1), "{job:?}");
    assert_eq!(client.printed(&id, Stream::Stdout).await, b"1\n2\n3\n4\n5\n6\n7\n8\n");
    assert_eq!(client.artifacts(&id).await.len(), 1);
    let followed = follower.wait_with_output().expect("the follower ends");
    assert_eq!(String::from_utf8_lossy(&followed.stdout), "1\n2\n3\n4\n5\n6\n7\n8\n");
}

#[tokio::test]
async fn queued_jobs_outlive_a_restart_of_everything() {
    let mut cluster = on_servers().start();
    let client = Client::connect(&cluster).await;
    cluster.kill_agent(0);
    let id = client.submit(shell(&image(), "echo ran")).await;
    cluster.kill_controller();
    cluster.start_controller();
    cluster.start_agent(0);
    let job = client.ended(&id).await;
    assert_eq!((outcome(&job).as_str(), job.attempts), ("succeeded", 1), "{job:?}");
}

#[tokio::test]
async fn a_container_outlives_an_agent_that_was_killed() {
    let mut cluster = embedded().start();
    let client = Client::connect(&cluster).await;
    let script = "i=0; while [ $i -lt 400 ]; do i=$((i + 1)); echo line $i; echo odd $i >&2; sleep 0.02; done; \
                  echo kept >/out/a; exit 3";
    let id = client.submit(shell(&image(), script)).await;
    client.prints(&id, "line 50").await;
    cluster.kill_agent(0);
    let container = container_of(&id);
    cluster.start_agent(0);
    let job = client.ended(&id).await;
    assert_eq!((outcome(&job).as_str(), job.attempts), ("exit_code", 1), "{job:?}");
    let lines = |word: &str| (1..=400).map(|i| format!("{word} {i}\n")).collect::<String>();
    assert_eq!(client.printed(&id, Stream::Stdout).await, lines("line").as_bytes());
    assert_eq!(client.printed(&id, Stream::Stderr).await, lines("odd").as_bytes());
    assert_eq!(client.artifacts(&id).await.len(), 1);
    assert!(!container.is_empty(), "it ran while no agent did");
    until("its container is removed", || async {
        let left = container_of(&id);
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}

#[tokio::test]
async fn what_ended_while_the_agent_was_dead_is_told_as_it_was() {
    let mut cluster = embedded().start();
    let client = Client::connect(&cluster).await;
    let id = client.submit(shell(&image(), "echo begin; sleep 3; echo end; echo x >/out/x; exit 4")).await;
    client.prints(&id, "begin").await;
    cluster.kill_agent(0);
    until("the container ends", || async {
        let status = status_of(&id);
        if status.starts_with("Exited") { Ok(()) } else { Err(status) }
    })
    .await;
    cluster.start_agent(0);
    let job = client.ended(&id).await;
    assert_eq!((outcome(&job).as_str(), job.attempts), ("exit_code", 1), "{job:?}");
    assert_eq!(client.printed(&id, Stream::Stdout).await, b"begin\nend\n");
    assert_eq!(client.artifacts(&id).await.len(), 1);
}

#[tokio::test]
async fn the_run_deadline_of_a_container_counts_from_its_true_start() {
    let mut cluster = embedded().start();
    let client = Client::connect(&cluster).await;
    let mut spec = shell(&image(), "echo begin; sleep 600");
    spec.deadlines = Some(Deadlines { run: seconds(6), ..Default::default() });
    let id = client.submit(spec).await;
    client.prints(&id, "begin").await;
    for _ in 0..2 {
        cluster.kill_agent(0);
        cluster.start_agent(0);
        client.prints(&id, "took the container over").await;
    }
    let job = client.ended(&id).await;
    assert_eq!((outcome(&job).as_str(), job.attempts), ("run_timeout", 1), "{job:?}");
    let ran = job.finished_at.expect("ended").seconds - job.started_at.expect("started").seconds;
    assert!(ran <= 6 + 10 + 2, "deadline, grace and a little: {ran} s");
}

#[tokio::test]
async fn an_agent_killed_while_it_pulls_goes_on() {
    let registry = Registry::start();
    let mut cluster = embedded().login(&registry).start();
    let client = Client::connect(&cluster).await;
    let pushed = registry.push(&image(), "late:1");
    docker(&["rmi", &pushed]);
    registry.pause();
    let id = client.submit(shell(&pushed, "echo ran")).await;
    client.reaches(&id, JobState::Preparing).await;
    cluster.kill_agent(0);
    cluster.start_agent(0);
    registry.resume();
    let job = client.ended(&id).await;
    assert_eq!((outcome(&job).as_str(), job.attempts), ("succeeded", 1), "{job:?}");
    assert_eq!(client.printed(&id, Stream::Stdout).await, b"ran\n");
}

#[tokio::test]
async fn an_agent_killed_while_it_collects_goes_on() {
    let mut cluster = on_servers().start();
    let client = Client::connect(&cluster).await;
    // Enough files that the collection is under way when the agent dies.
    let script = "echo begin; i=0; while [ $i -lt 3000 ]; do i=$((i + 1)); echo $i >/out/$i; done";
    let id = client.submit(shell(&image(), script)).await;
    client.reaches(&id, JobState::Collecting).await;
    cluster.kill_agent(0);
    cluster.start_agent(0);
    let job = client.ended(&id).await;
    assert_eq!((outcome(&job).as_str(), job.attempts), ("succeeded", 1), "{job:?}");
    assert_eq!(client.artifacts(&id).await.len(), 3000);
}

#[tokio::test]
async fn an_agent_that_is_exchanged_leaves_its_containers_running() {
    let mut cluster = embedded().start();
    let client = Client::connect(&cluster).await;
    let id = client.submit(shell(&image(), "echo begin; sleep 4; echo end")).await;
    client.prints(&id, "begin").await;
    assert_eq!(cluster.agent(0).terminate(PATIENCE).code(), Some(0));
    assert!(status_of(&id).starts_with("Up"), "{}", status_of(&id));
    cluster.start_agent(0);
    let job = client.ended(&id).await;
    assert_eq!((outcome(&job).as_str(), job.attempts), ("succeeded", 1), "{job:?}");
    assert_eq!(client.printed(&id, Stream::Stdout).await, b"begin\nend\n");
}

#[tokio::test]
async fn an_agent_set_to_drain_hands_back_what_runs() {
    let plan =
        embedded().agent_setting("on_shutdown = \"drain\"").agent_setting("shutdown_grace_seconds = 1");
    let mut cluster = plan.start();
    let client = Client::connect(&cluster).await;
    let id = client.submit(shell(&image(), "echo begin; [ -e /tmp_disk/never ] || sleep 60")).await;
    client.prints(&id, "begin").await;
    assert_eq!(cluster.agent(0).terminate(PATIENCE).code(), Some(0));
    assert_eq!(client.get(&id).await.job.expect("there").state(), JobState::Queued);
    assert_eq!(status_of(&id), "", "its container is gone");
}

/// The engine's id of the job's container; empty: there is none.
fn container_of(job: &str) -> String {
    docker(&["ps", "-aq", "--filter", &format!("name=longshore-{job}-")])
}

/// `Up 3 seconds`, `Exited (0) 1 second ago`
fn status_of(job: &str) -> String {
    docker(&["ps", "-a", "--format", "{{.Status}}", "--filter", &format!("name=longshore-{job}-")])
}

#[tokio::test]
async fn sigterm_ends_controller_and_agent_in_good_order() {
    let mut cluster = embedded().start();
    let client = Client::connect(&cluster).await;
    assert_eq!(outcome(&client.run(shell(&image(), "true")).await), "succeeded");
    assert_eq!(cluster.agent(0).terminate(PATIENCE).code(), Some(0));
    assert_eq!(cluster.controller().terminate(PATIENCE).code(), Some(0));
}

#[tokio::test]
async fn a_second_sigterm_ends_an_agent_that_drains_at_once_and_its_job_goes_on() {
    let plan =
        embedded().agent_setting("on_shutdown = \"drain\"").agent_setting("shutdown_grace_seconds = 3600");
    let mut cluster = plan.start();
    let client = Client::connect(&cluster).await;
    let id = client.submit(shell(&image(), "echo begin; while [ ! -e /out/go ]; do sleep 1; done")).await;
    client.prints(&id, "begin").await;
    cluster.agent(0).ask_to_end();
    until("the agent says that it leaves", || async {
        let said = cluster.outputs();
        if said.contains("a second signal ends at once") { Ok(()) } else { Err(said) }
    })
    .await;
    assert_eq!(cluster.agent(0).exited(), None, "it waits for its job");
    assert_eq!(cluster.agent(0).terminate(PATIENCE).code(), Some(130));
    cluster.start_agent(0);
    client.prints(&id, "took the container over").await;
    docker(&["exec", &container_of(&id), "touch", "/out/go"]);
    let job = client.ended(&id).await;
    assert_eq!((outcome(&job).as_str(), job.attempts), ("succeeded", 1), "{job:?}");
}

#[tokio::test]
async fn a_volume_of_the_image_goes_with_its_container() {
    let cluster = embedded().start();
    let client = Client::connect(&cluster).await;
    let image = image_with("volume", "VOLUME /data");
    let id = client.submit(shell(&image, "echo x >/data/x; echo begin; sleep 600")).await;
    client.prints(&id, "begin").await;
    let volume = docker(&["inspect", "-f", "{{range .Mounts}}{{.Name}}{{end}}", &container_of(&id)]);
    assert!(docker_output(&["volume", "inspect", &volume]).status.success(), "{volume}");
    let request = CancelJobsRequest { jobs: vec![id.clone()], ..CancelJobsRequest::default() };
    client.jobs.clone().cancel(request).await.expect("cancel");
    assert_eq!(outcome(&client.ended(&id).await), "cancelled");
    until("its volume is removed", || async {
        let left = docker_output(&["volume", "inspect", &volume]);
        if left.status.success() { Err(volume.clone()) } else { Ok(()) }
    })
    .await;
}
