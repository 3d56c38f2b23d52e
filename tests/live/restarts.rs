//! Processes killed with SIGKILL while jobs run. Nothing is lost, nothing runs twice.

use longshore_proto::v1::{JobState, Stream};
use longshore_tests::env::{Client, Plan, embedded, image, on_servers, outcome, shell};

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
async fn sigterm_ends_controller_and_agent_in_good_order() {
    let mut cluster = embedded().start();
    let client = Client::connect(&cluster).await;
    assert_eq!(outcome(&client.run(shell(&image(), "true")).await), "succeeded");
    let limit = std::time::Duration::from_secs(30);
    assert_eq!(cluster.agent(0).terminate(limit).code(), Some(0));
    assert_eq!(cluster.controller().terminate(limit).code(), Some(0));
}
