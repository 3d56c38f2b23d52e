//! Time, memory, and files that count as memory; and that the true cause is told.

use super::{cluster, printed, script};
use longshore_proto::v1::{Deadlines, Job, JobSpec};
use longshore_tests::env::{Client, outcome, seconds};
use std::time::Instant;

fn detail(job: &Job) -> String {
    job.outcome.as_ref().expect("it ended").detail.clone()
}

#[tokio::test]
async fn more_than_the_memory_limit_in_its_own_files_ends_as_files_over_memory() {
    let client = Client::connect(cluster()).await;
    for target in ["/big", "/tmp/big"] {
        let began = Instant::now();
        let job = client.run(script(&format!("dd if=/dev/zero of={target} bs=1M count=90; sleep 60"))).await;
        assert_eq!(outcome(&job), "files_over_memory", "{target}: {job:?}");
        assert!(detail(&job).contains("64 MiB, its memory limit"), "{job:?}");
        assert!(began.elapsed().as_secs() < 40, "it had no grace to write on in");
    }
}

#[tokio::test]
async fn files_and_memory_count_together() {
    let client = Client::connect(cluster()).await;
    // `tail` holds what it read; neither is too much alone.
    let both = "dd if=/dev/zero of=/big bs=1M count=40; (dd if=/dev/zero bs=1M count=36; sleep 60) | tail -c 36m >/dev/null";
    let job = client.run(script(both)).await;
    assert_eq!(outcome(&job), "files_over_memory", "{job:?}");
}

#[tokio::test]
async fn files_in_tmp_disk_and_out_do_not_count_as_memory() {
    let client = Client::connect(cluster()).await;
    let job =
        client.run(script("dd if=/dev/zero of=/tmp_disk/big bs=1M count=90; sleep 2; ls -l /tmp_disk")).await;
    assert_eq!(outcome(&job), "succeeded", "{job:?}");
    assert!(printed(&client, &job).await.contains("94371840"));
    let job = client.run(script("dd if=/dev/zero of=/out/big bs=1M count=80; sleep 2")).await;
    assert_eq!(outcome(&job), "succeeded", "{job:?}");
}

#[tokio::test]
async fn an_action_can_turn_the_rule_of_files_off() {
    let client = Client::connect(cluster()).await;
    let mut spec = script("dd if=/dev/zero of=/big bs=1M count=90; sleep 2; ls -l /big");
    spec.kleinkram.as_mut().expect("set").files_in_memory = Some(false);
    let job = client.run(spec).await;
    assert_eq!(outcome(&job), "succeeded", "{job:?}");
}

#[tokio::test]
async fn memory_itself_is_limited() {
    let client = Client::connect(cluster()).await;
    let job = client.run(script("tail -c 200m /dev/zero >/dev/null; exit $?")).await;
    assert_eq!(outcome(&job), "oom_killed", "{job:?}");
}

fn limited(run: i64, script: JobSpec) -> JobSpec {
    JobSpec { deadlines: Some(Deadlines { run: seconds(run), ..Deadlines::default() }), ..script }
}

#[tokio::test]
async fn time_is_limited_by_sigterm_and_ten_seconds_later_by_sigkill() {
    let client = Client::connect(cluster()).await;
    let polite = limited(1, script("trap 'echo TERM; echo left >/out/left; exit 143' TERM; sleep 60 & wait"));
    let stubborn = limited(1, script("trap 'echo TERM' TERM; while :; do sleep 1; done"));
    let (polite, stubborn) = (client.submit(polite).await, client.submit(stubborn).await);
    let polite = client.ended(&polite).await;
    assert_eq!(outcome(&polite), "run_timeout", "never exit_code(143): {polite:?}");
    assert!(printed(&client, &polite).await.contains("TERM"));
    assert_eq!(client.artifacts(&polite.id).await.len(), 1, "what it left is kept");
    let stubborn = client.ended(&stubborn).await;
    assert_eq!(outcome(&stubborn), "run_timeout", "never exit_code(137): {stubborn:?}");
    let attempt = client.get(&stubborn.id).await.attempts.pop().expect("it was tried");
    let [from, to] = [attempt.started_at, attempt.exited_at].map(|at| at.expect("known").seconds);
    assert!((10..=14).contains(&(to - from)), "SIGKILL after {} s", to - from);
}

#[tokio::test]
async fn exit_codes_get_their_sentence_and_never_in_place_of_the_true_cause() {
    let client = Client::connect(cluster()).await;
    for (code, says) in [
        (125, "docker run"),
        (126, "permission denied?"),
        (127, "was not found"),
        (137, "SIGKILL"),
        (139, "SIGSEGV, invalid memory access"),
        (143, "SIGTERM"),
    ] {
        let job = client.run(script(&format!("exit {code}"))).await;
        let ended = job.outcome.clone().expect("it ended");
        assert_eq!((ended.name.as_str(), ended.exit_code), ("exit_code", code), "{job:?}");
        assert!(ended.detail.contains(&code.to_string()) && ended.detail.contains(says), "{}", ended.detail);
    }
    let id = client.submit(script("trap 'exit 143' TERM; echo up; sleep 60 & wait")).await;
    client.prints(&id, "up").await;
    cluster().cli().call(&["cancel", &id]).expect(0);
    assert_eq!(outcome(&client.ended(&id).await), "cancelled");
}
