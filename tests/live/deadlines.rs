//! Deadlines: SIGTERM, the grace, SIGKILL, and the true outcome in each case.

use longshore_proto::v1::{JobSpec, Stream};
use longshore_tests::env::{Client, Cluster, image, outcome, seconds, shell};
use std::time::{Duration, Instant};

on_both! {
    what_a_trap_writes_in_its_grace_is_kept
    a_process_that_ignores_sigterm_is_killed_after_its_grace
}

fn limited(script: &str, run: i64, grace: i64) -> JobSpec {
    let mut spec = shell(&image(), script);
    let deadlines = spec.deadlines.get_or_insert_default();
    deadlines.run = seconds(run);
    deadlines.stop_grace = seconds(grace);
    spec
}

async fn what_a_trap_writes_in_its_grace_is_kept(cluster: &Cluster) {
    let client = Client::connect(cluster).await;
    let script = "trap 'sleep 1; echo last >/out/t; echo trapped; exit 0' TERM; echo first >/out/a; \
                  while :; do sleep 1; done";
    let job = client.run(limited(script, 2, 20)).await;
    assert_eq!(outcome(&job), "run_timeout", "{job:?}");
    assert_eq!(job.outcome.as_ref().map(|outcome| outcome.exit_code), Some(124));
    let names: Vec<_> = client.artifacts(&job.id).await.into_iter().map(|artifact| artifact.path).collect();
    assert_eq!(names, [&b"a"[..], b"t"]);
    assert_eq!(client.printed(&job.id, Stream::Stdout).await, b"trapped\n");
}

async fn a_process_that_ignores_sigterm_is_killed_after_its_grace(cluster: &Cluster) {
    let client = Client::connect(cluster).await;
    let began = Instant::now();
    let job = client.run(limited("trap '' TERM; echo kept >/out/a; while :; do sleep 1; done", 2, 2)).await;
    assert_eq!(outcome(&job), "run_timeout", "{job:?}");
    assert!(began.elapsed() >= Duration::from_secs(4), "killed inside its grace: {:?}", began.elapsed());
    assert_eq!(client.artifacts(&job.id).await.len(), 1);
}

#[tokio::test]
async fn a_job_that_is_never_claimed_passes_its_queue_deadline() {
    let client = Client::connect(crate::shared::embedded()).await;
    let mut spec = shell(&image(), "true");
    spec.resources.get_or_insert_default().cpu_millis = Some(500_000);
    spec.deadlines.get_or_insert_default().queue = seconds(1);
    let job = client.run(spec).await;
    assert_eq!(outcome(&job), "queue_timeout", "{job:?}");
}

#[tokio::test]
async fn a_registry_that_never_answers_passes_the_prepare_deadline() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("bind a port");
    let address = silent.local_addr().expect("an address");
    let client = Client::connect(crate::shared::embedded()).await;
    let mut spec = shell(&format!("{address}/silent:1"), "true");
    spec.deadlines.get_or_insert_default().prepare = seconds(2);
    spec.retry.get_or_insert_default().attempts = 1;
    let job = client.run(spec).await;
    assert_eq!(outcome(&job), "prepare_timeout", "{job:?}");
}
