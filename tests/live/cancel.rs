//! Cancel in every phase: it ends soon, as `cancelled`, and leaves no container.

use longshore_common::clock::Timestamp;
use longshore_proto::v1::{CancelJobsRequest, JobState};
use longshore_tests::env::{
    Client, Cluster, docker, embedded as embedded_plan, image, outcome, seconds, shell,
};
use std::{net::TcpListener, time::Duration};

on_both! {
    a_queued_job
    a_job_that_was_just_submitted
    a_preparing_job
    a_running_job_keeps_what_it_wrote_in_its_grace
    a_running_job_that_ignores_sigterm
    a_collecting_job
    an_ended_job_stays_as_it_ended
}

/// A grace of 10 s, and room for a machine that does much else.
const SOON: Duration = Duration::from_secs(90);

async fn cancel(client: &Client, job: &str) {
    let request = CancelJobsRequest { jobs: vec![job.to_owned()], ..CancelJobsRequest::default() };
    client.jobs.clone().cancel(request).await.expect("cancel");
}

async fn ends_cancelled(client: &Client, job: &str) {
    let ended = client.ended_within(SOON, job).await;
    assert_eq!(outcome(&ended), "cancelled", "{ended:?}");
    assert_eq!(ended.outcome.as_ref().map(|outcome| outcome.exit_code), Some(130));
    let filter = format!("label=longshore.job={}", ended.uuid);
    longshore_tests::env::until("its container is gone", || async {
        let left = docker(&["ps", "-aq", "--filter", &filter]);
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}

async fn a_queued_job(cluster: &Cluster) {
    let client = Client::connect(cluster).await;
    let mut spec = shell(&image(), "true");
    spec.resources.get_or_insert_default().cpu_millis = Some(500_000);
    let id = client.submit(spec).await;
    cancel(&client, &id).await;
    ends_cancelled(&client, &id).await;
}

async fn a_job_that_was_just_submitted(cluster: &Cluster) {
    let client = Client::connect(cluster).await;
    for _ in 0..10 {
        let id = client.submit(shell(&image(), "sleep 600")).await;
        cancel(&client, &id).await;
        ends_cancelled(&client, &id).await;
    }
}

async fn a_preparing_job(cluster: &Cluster) {
    let client = Client::connect(cluster).await;
    // A registry that takes the connection and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").expect("bind a port");
    let address = silent.local_addr().expect("an address");
    let id = client.submit(shell(&format!("{address}/silent:1"), "true")).await;
    client.reaches(&id, JobState::Preparing).await;
    cancel(&client, &id).await;
    ends_cancelled(&client, &id).await;
}

async fn a_running_job_keeps_what_it_wrote_in_its_grace(cluster: &Cluster) {
    let client = Client::connect(cluster).await;
    let id = client
        .submit(shell(&image(), "trap 'echo t >/out/t; exit 0' TERM; echo up >/out/up; sleep 600 & wait"))
        .await;
    started(&client, &id).await;
    cancel(&client, &id).await;
    ends_cancelled(&client, &id).await;
    let names: Vec<_> = client.artifacts(&id).await.into_iter().map(|artifact| artifact.path).collect();
    assert_eq!(names, [&b"t"[..], b"up"]);
}

async fn a_running_job_that_ignores_sigterm(cluster: &Cluster) {
    let client = Client::connect(cluster).await;
    let mut spec = shell(&image(), "trap '' TERM; echo up >/out/up; while :; do sleep 1; done");
    spec.deadlines.get_or_insert_default().stop_grace = seconds(1);
    let id = client.submit(spec).await;
    started(&client, &id).await;
    cancel(&client, &id).await;
    ends_cancelled(&client, &id).await;
}

/// The script runs: `reaches` alone would race with its trap.
async fn started(client: &Client, job: &str) {
    client.reaches(job, JobState::Running).await;
    let filter = format!("label=longshore.job={}", client.get(job).await.job.expect("a job").uuid);
    longshore_tests::env::until("the script is past its trap", || async {
        let id = docker(&["ps", "-q", "--filter", &filter]);
        let seen = longshore_tests::env::docker_output(&["exec", &id, "ls", "/out/up"]);
        if seen.status.success() { Ok(()) } else { Err(seen) }
    })
    .await;
}

async fn a_collecting_job(cluster: &Cluster) {
    let client = Client::connect(cluster).await;
    let script = "i=0; while [ $i -lt 20000 ]; do echo $i >/out/f$i; i=$((i + 1)); done";
    let id = client.submit(shell(&image(), script)).await;
    client.reaches(&id, JobState::Collecting).await;
    cancel(&client, &id).await;
    let ended = client.ended(&id).await;
    let files = client.artifacts(&id).await.len();
    // Its main process had ended already: either word is true, and there are all of its files or none.
    match outcome(&ended).as_str() {
        "cancelled" => assert_eq!(files, 0),
        "succeeded" => assert_eq!(files, 20_000),
        other => panic!("{other}: {ended:?}"),
    }
}

async fn an_ended_job_stays_as_it_ended(cluster: &Cluster) {
    let client = Client::connect(cluster).await;
    let job = client.run(shell(&image(), "true")).await;
    cancel(&client, &job.id).await;
    assert_eq!(outcome(&client.ended(&job.id).await), "succeeded");
}

/// Between SIGTERM and SIGKILL comes the grace; everything else has five seconds.
#[tokio::test]
async fn nothing_of_a_container_that_ignores_sigterm_is_alive_five_seconds_after_its_grace() {
    const GRACE: i64 = 3;
    let cluster = embedded_plan().start();
    let client = Client::connect(&cluster).await;
    // A child that ignores it too.
    let mut spec = shell(
        &image(),
        "trap '' TERM; (trap '' TERM; while :; do sleep 1; done) & echo up >/out/up; while :; do sleep 1; done",
    );
    spec.deadlines.get_or_insert_default().stop_grace = seconds(GRACE);
    let id = client.submit(spec).await;
    started(&client, &id).await;
    let filter = format!("label=longshore.job={}", client.get(&id).await.job.expect("a job").uuid);
    let asked = Timestamp::now();
    cancel(&client, &id).await;
    ends_cancelled(&client, &id).await;
    // By the engine's own word, whenever we come to read it.
    let (since, until) = (asked.as_micros() / 1_000_000, Timestamp::now().as_micros() / 1_000_000 + 1);
    let died = docker(&[
        "events",
        "--since",
        &since.to_string(),
        "--until",
        &until.to_string(),
        "--filter",
        &filter,
        "--filter",
        "event=die",
        "--format",
        "{{.TimeNano}}",
    ]);
    let died: i64 = died.parse().unwrap_or_else(|_| panic!("it died once: {died:?}"));
    let took = Timestamp::from_micros(died / 1000).since(asked).as_secs_f64();
    assert!((3.0..8.0).contains(&took), "{took} s");
}
