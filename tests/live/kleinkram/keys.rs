//! Run keys: in the container, and nowhere else; good as long as their attempt, whatever becomes of it.

use super::{cluster, containers, minted, minter, printed, script, settle, store};
use longshore_proto::v1::RetryPolicy;
use longshore_tests::env::{Client, docker_output, embedded, fresh_dir, outcome, seconds, until};
use std::{io::Write as _, path::Path, process::Stdio};

/// Of the job's attempts, in order.
fn keys_of(store: &Path, uuid: &str) -> Vec<Vec<String>> {
    minted(store).into_iter().filter(|line| line[0].starts_with(uuid)).collect()
}

async fn revoked(store: &Path, uuid: &str) {
    until("every key of the job is taken back", || async {
        let keys = keys_of(store, uuid);
        let over = !keys.is_empty() && keys.iter().all(|line| line[4] == "revoked");
        if over { Ok(()) } else { Err(keys) }
    })
    .await;
}

#[tokio::test]
async fn a_key_is_minted_for_each_attempt_shown_nowhere_and_taken_back() {
    let client = Client::connect(cluster()).await;
    let mut spec =
        script("echo [$KLEINKRAM_API_KEY] [$APIKEY] >&2; printf %s $APIKEY | wc -c; sleep 1; exit 1");
    spec.access = longshore_proto::v1::AccessRight::Write.into();
    spec.retry = Some(RetryPolicy { attempts: 2, on: vec!["exit_code".into()], ..RetryPolicy::default() });
    let job = client.run(spec).await;
    assert_eq!(job.attempts, 2, "{job:?}");
    assert_eq!(printed(&client, &job).await, "36\n");
    let keys = keys_of(&store(), &job.uuid);
    assert_eq!(keys.len(), 2, "{keys:?}");
    assert_ne!(keys[0][1], keys[1][1], "each attempt has its own");
    assert_eq!((keys[0][2].as_str(), keys[0][3].as_str()), (super::MISSION, "write"));
    revoked(&store(), &job.uuid).await;
    let cli = cluster().cli();
    let mut told = format!("{:?}", client.get(&job.id).await);
    for arguments in
        [&["show", &job.id][..], &["show", &job.id, "-o", "json"], &["logs", &job.id], &["status"]]
    {
        let done = cli.call(arguments);
        told.push_str(&(done.text() + &done.stderr));
    }
    told.push_str(&cluster().outputs());
    let left = containers(&job.id);
    assert!(
        left.is_empty() || !docker_output(&["inspect", &left]).status.success(),
        "nothing is left to inspect"
    );
    assert!(told.contains("[***] [***]"), "{told}");
    for line in &keys {
        assert!(!told.contains(&line[1]), "{} is told", line[1]);
    }
}

#[tokio::test]
async fn a_key_can_be_a_secret() {
    let client = Client::connect(cluster()).await;
    let file = cluster().cli();
    let mut child = file.command(&["secrets", "set", "given-key"]).stdin(Stdio::piped()).spawn();
    let child = child.as_mut().expect("run longshore");
    child.stdin.take().expect("piped").write_all(b"5f0c-given").expect("it reads");
    assert!(child.wait().expect("it ends").success());
    let mut spec = script("echo $APIKEY $KLEINKRAM_API_KEY; printf %s $APIKEY | wc -c");
    spec.kleinkram.as_mut().expect("set").key_secret = "given-key".into();
    let job = client.run(spec).await;
    assert_eq!(printed(&client, &job).await, "*** ***\n10\n");
    assert_eq!(keys_of(&store(), &job.uuid), Vec::<Vec<String>>::new(), "none was minted");
}

#[tokio::test]
async fn a_minter_that_fails_ends_the_attempt_with_its_name_and_nobodys_blame() {
    let cluster = cluster();
    let set = ["projects", "create", "unlucky", "--kleinkram-project-uuid", super::PROJECT];
    let endpoints = ["--kleinkram-api-endpoint", super::API, "--kleinkram-s3-endpoint", super::S3];
    cluster.cli().call(&[&set[..], &endpoints, &["--kleinkram-minter", "broken"]].concat()).expect(0);
    let image = super::image();
    let mission = format!("mission_uuid={}", super::MISSION);
    let run =
        ["--project", "unlucky", "run", "--attempts", "2", "--backoff", "100ms", "--kleinkram", &mission];
    let small = ["--cpus", "0.1", "-m", "64m", "--scratch", "256m", &image];
    let done = cluster.cli().call(&[&run[..], &small].concat()).expect(125);
    assert!(
        done.stderr.contains("run_key_failed") && done.stderr.contains("minter `broken`"),
        "{}",
        done.stderr
    );
    assert!(!done.stderr.contains("no luck"), "what it complained is the operator's: {}", done.stderr);
}

#[tokio::test]
async fn an_agent_that_is_killed_leaves_no_key_behind_and_its_next_process_has_the_same_one() {
    let store = fresh_dir("minter-of-its-own").join("keys.db");
    let settings = minter(&store, "0") + "[reconcile]\nlease_grace = \"1s\"\n";
    let mut cluster = embedded().controller(&settings).start();
    settle(&cluster);
    let client = Client::connect(&cluster).await;
    let mut spec =
        script("echo up; i=0; while [ $i -lt 12 ]; do echo [$APIKEY]; i=$((i + 1)); sleep 0.5; done");
    spec.disconnect_tolerance = seconds(10);
    let id = client.submit(spec.clone()).await;
    client.prints(&id, "up").await;
    cluster.kill_agent(0);
    cluster.start_agent(0);
    let job = client.ended(&id).await;
    assert_eq!((outcome(&job).as_str(), job.attempts), ("succeeded", 1), "{job:?}");
    assert_eq!(printed(&client, &job).await, "up\n".to_owned() + &"[***]\n".repeat(12));
    assert_eq!(keys_of(&store, &job.uuid).len(), 1, "a take-over mints nothing");
    revoked(&store, &job.uuid).await;

    let id = client.submit(spec).await;
    client.prints(&id, "up").await;
    let uuid = client.get(&id).await.job.expect("a job").uuid;
    assert_eq!(keys_of(&store, &uuid)[0][4], "good");
    cluster.kill_agent(0);
    revoked(&store, &uuid).await;
    cluster.cli().call(&["cancel", &id]).expect(0);
    cluster.start_agent(0);
}

#[tokio::test]
async fn a_controller_killed_between_mint_and_answer_knows_of_the_key_and_its_attempt_goes_on() {
    let store = fresh_dir("slow-minter").join("keys.db");
    let mut cluster = embedded().controller(&minter(&store, "4")).start();
    settle(&cluster);
    let client = Client::connect(&cluster).await;
    let id = client.submit(script("printf %s $APIKEY | wc -c")).await;
    let uuid = client.get(&id).await.job.expect("a job").uuid;
    until("a key is made", || async { if keys_of(&store, &uuid).is_empty() { Err(()) } else { Ok(()) } })
        .await;
    cluster.kill_controller();
    assert_eq!(keys_of(&store, &uuid)[0][4], "good", "and nobody was told of it");
    cluster.start_controller();
    let client = Client::connect(&cluster).await;
    let job = client.ended(&id).await;
    assert_eq!((outcome(&job).as_str(), job.attempts), ("succeeded", 1), "{job:?}");
    assert_eq!(printed(&client, &job).await, "36\n");
    revoked(&store, &uuid).await;
}

#[tokio::test]
async fn a_controller_killed_between_mint_and_answer_takes_back_the_key_of_a_job_that_was_cancelled() {
    let store = fresh_dir("slow-minter-cancelled").join("keys.db");
    let mut cluster = embedded().controller(&minter(&store, "4")).start();
    settle(&cluster);
    let client = Client::connect(&cluster).await;
    let id = client.submit(script("true")).await;
    let uuid = client.get(&id).await.job.expect("a job").uuid;
    until("a key is made", || async { if keys_of(&store, &uuid).is_empty() { Err(()) } else { Ok(()) } })
        .await;
    cluster.kill_controller();
    cluster.start_controller();
    cluster.cli().call(&["cancel", &id]).expect(0);
    Client::connect(&cluster).await.ended(&id).await;
    revoked(&store, &uuid).await;
}

/// A call to the sample, under way.
fn call(store: &Path, action: &str, pause: &[&str]) -> std::process::Child {
    let mut command = super::sample_minter(store);
    let piped = command.args(pause).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().expect("run the minter");
    let told = format!(
        "{{\"action\": \"{action}\", \"run\": \"r1\", \"mission_uuid\": \"m\", \"access\": \"read\"}}"
    );
    child.stdin.take().expect("piped").write_all(told.as_bytes()).expect("it reads");
    child
}

fn said(child: std::process::Child) -> (bool, String) {
    let done = child.wait_with_output().expect("it ends");
    (done.status.success(), String::from_utf8_lossy(&done.stderr).into_owned())
}

async fn lists(store: &Path, state: &str) {
    until("the sample lists its run", || async {
        let listed = super::listed(store);
        if listed.iter().any(|line| line[4] == state) { Ok(()) } else { Err(listed) }
    })
    .await;
}

#[tokio::test]
async fn the_sample_minter_takes_back_a_key_that_it_was_killed_before_noting() {
    let store = fresh_dir("killed-minter").join("keys.db");
    let mut mint = call(&store, "mint", &["--pause", "600"]);
    lists(&store, "good").await;
    mint.kill().expect("killed");
    mint.wait().expect("it ends");
    assert!(said(call(&store, "revoke", &[])).0);
    lists(&store, "revoked").await;
    let (done, why) = said(call(&store, "mint", &[]));
    assert!(!done && why.contains("the run is over"), "{why}");
}

#[tokio::test]
async fn a_revoke_that_overtakes_the_sample_minter_leaves_no_key() {
    let store = fresh_dir("overtaken-minter").join("keys.db");
    let mint = call(&store, "mint", &["--pause-before", "3"]);
    lists(&store, "none").await;
    assert!(said(call(&store, "revoke", &[])).0);
    let (done, why) = said(mint);
    assert!(!done && why.contains("over before its key was made"), "{why}");
    let keys = minted(&store);
    assert!(keys.len() == 1 && keys[0][4] == "revoked", "{keys:?}");
}
