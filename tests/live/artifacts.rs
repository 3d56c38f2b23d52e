//! What a container leaves in /out: any owner, any size, any number, any name; and nothing from elsewhere.

use longshore_proto::v1::Stream;
use longshore_tests::env::{
    Client, Cluster, PATIENCE, Plan, embedded as plan, image, image_with, on_servers, outcome, shell,
};
use sha2::{Digest as _, Sha256};
use std::fs;

on_both! {
    a_private_file_of_user_1000_is_collected
    twenty_thousand_small_files_are_all_there
    only_plain_files_of_out_itself_are_collected
    globs_choose_and_caps_refuse
}

async fn a_private_file_of_user_1000_is_collected(cluster: &Cluster) {
    let client = Client::connect(cluster).await;
    let image = image_with("user", "USER 1000");
    let job = client
        .run(shell(&image, "umask 077; id -u; echo secret >/out/private; mkdir /out/d; echo x >/out/d/y"))
        .await;
    assert_eq!(outcome(&job), "succeeded", "{job:?}");
    assert_eq!(client.printed(&job.id, Stream::Stdout).await, b"1000\n");
    let artifacts = client.artifacts(&job.id).await;
    let private = artifacts.iter().find(|artifact| artifact.path == b"private"[..]).expect("it is listed");
    assert_eq!((private.size, private.mode & 0o777), (7, 0o600));
    let cli = cluster.cli();
    cli.call(&["artifacts", "get", &job.id, "--out", "result"]).expect(0);
    assert_eq!(fs::read_to_string(cli.folder().join("result/private")).expect("it came back"), "secret\n");
    assert_eq!(fs::read_to_string(cli.folder().join("result/d/y")).expect("it came back"), "x\n");
}

async fn twenty_thousand_small_files_are_all_there(cluster: &Cluster) {
    let client = Client::connect(cluster).await;
    let script = "i=0; while [ $i -lt 20000 ]; do echo $i >/out/f$i; i=$((i + 1)); done";
    let job = client.run(shell(&image(), script)).await;
    assert_eq!(outcome(&job), "succeeded", "{job:?}");
    let artifacts = client.artifacts(&job.id).await;
    assert_eq!(artifacts.len(), 20_000);
    for artifact in artifacts {
        let name = String::from_utf8_lossy(&artifact.path).into_owned();
        let content = format!("{}\n", name.strip_prefix('f').expect("its name is f and a number"));
        assert_eq!(artifact.sha256, Sha256::digest(content).to_vec(), "{name}");
    }
}

async fn only_plain_files_of_out_itself_are_collected(cluster: &Cluster) {
    let client = Client::connect(cluster).await;
    let script = r#"echo kept >/out/kept; mkfifo /out/pipe; ln -s /etc/passwd /out/link; ln -s /etc /out/folder
        ln -s ../../../../etc/shadow /out/up; printf x >"/out/$(printf 'not\377utf8')"; printf y >"/out/a b""#;
    let job = client.run(shell(&image(), script)).await;
    assert_eq!(outcome(&job), "succeeded", "{job:?}");
    let names: Vec<_> = client.artifacts(&job.id).await.into_iter().map(|artifact| artifact.path).collect();
    assert_eq!(names, [&b"a b"[..], b"kept", b"not\xffutf8"]);
}

async fn globs_choose_and_caps_refuse(cluster: &Cluster) {
    let client = Client::connect(cluster).await;
    let script = "mkdir /out/sub; for f in a.txt b.tmp sub/c.txt sub/d.tmp; do echo 12345 >/out/$f; done";
    let mut spec = shell(&image(), script);
    spec.outputs.get_or_insert_default().exclude = vec!["**/*.tmp".to_owned()];
    let job = client.run(spec.clone()).await;
    let names: Vec<_> = client.artifacts(&job.id).await.into_iter().map(|artifact| artifact.path).collect();
    assert_eq!(names, [&b"a.txt"[..], b"sub/c.txt"], "{job:?}");
    spec.outputs.get_or_insert_default().max_files = Some(1);
    assert_eq!(outcome(&client.run(spec).await), "artifact_limit");
}

#[tokio::test]
async fn a_gibibyte_does_not_pass_through_the_agents_memory_embedded() {
    Box::pin(a_gibibyte(plan())).await;
}

#[tokio::test]
async fn a_gibibyte_does_not_pass_through_the_agents_memory_on_servers() {
    Box::pin(a_gibibyte(on_servers())).await;
}

async fn a_gibibyte(plan: Plan) {
    let cluster = plan.start();
    let client = Client::connect(&cluster).await;
    // One small job first, so that what every job costs once is not counted.
    client.run(shell(&image(), "echo warm >/out/warm")).await;
    let before = memory(cluster.agent_pid(0), "VmRSS");
    fs::write(format!("/proc/{}/clear_refs", cluster.agent_pid(0)), "5").expect("forget the peak so far");
    let mut spec = shell(&image(), "head -c 1073741824 /dev/urandom | tee /out/big | sha256sum");
    spec.resources.get_or_insert_default().scratch_bytes = Some(2 << 30);
    let id = client.submit(spec).await;
    let job = client.ended_within(4 * PATIENCE, &id).await;
    assert_eq!(outcome(&job), "succeeded", "{job:?}");
    let grown = memory(cluster.agent_pid(0), "VmHWM").saturating_sub(before);
    assert!(grown < 64 << 10, "the agent grew by {grown} KiB");
    let big = client.artifacts(&id).await.pop().expect("the file is listed");
    assert_eq!(big.size, 1 << 30);
    let printed = String::from_utf8_lossy(&client.printed(&id, Stream::Stdout).await).into_owned();
    assert_eq!(printed.split_whitespace().next(), Some(hex::encode(&big.sha256).as_str()));
    let cli = cluster.cli();
    cli.call(&["artifacts", "get", &id, "--out", "result"]).expect(0);
    assert_eq!(fs::metadata(cli.folder().join("result/big")).expect("it came back").len(), 1 << 30);
}

/// A line of /proc/PID/status, in KiB.
fn memory(pid: u32, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("read the agent's status");
    let value =
        status.lines().find_map(|entry| entry.strip_prefix(line)?.strip_prefix(':')).expect("a line of it");
    value.trim().trim_end_matches(" kB").parse().expect("a number")
}
