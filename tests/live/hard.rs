//! The hard disk limit: `/out` and `/tmp_disk` in a file system of the attempt's own, which never outlives it.

use crate::runtime::Node;
use longshore_agent::runtime::{Config, DiskLimit, Runtime as _};
use longshore_proto::v1::{JobSpec, JobState, Stream};
use longshore_tests::env::{Client, Cluster, docker, embedded, image, outcome, shell, until};
use std::{
    fs,
    sync::OnceLock,
    time::{Duration, Instant},
};

const LIMIT: u64 = 64 << 20;

fn cluster() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(start)
}

fn start() -> Cluster {
    embedded().agent("[runtime]\ndisk_limit = \"hard\"\n").start()
}

fn limited(script: &str) -> JobSpec {
    let mut spec = shell(&image(), script);
    spec.resources.get_or_insert_default().scratch_bytes = Some(LIMIT);
    spec
}

/// Mounts and loop devices whose path holds `name`.
fn left(name: &str) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/mounts").expect("there are mounts");
    let devices = fs::read_dir("/sys/block").expect("there are devices").filter_map(|device| {
        let file = device.ok()?.path().join("loop/backing_file");
        fs::read_to_string(file).ok()
    });
    let lines = mounts.lines().map(str::to_owned).chain(devices);
    lines.filter(|line| line.contains(name)).collect()
}

async fn is_clean(name: &str) {
    until("mounts, loop devices and files are gone", || async {
        let left = left(name);
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}

#[tokio::test]
async fn no_more_than_the_limit_ever_gets_in_and_the_outcome_says_so() {
    let client = Client::connect(cluster()).await;
    for target in ["/out/big", "/tmp_disk/big"] {
        let script =
            format!("echo kept >/out/kept; head -c 200m /dev/zero >{target}; r=$?; wc -c <{target}; exit $r");
        let job = client.run(limited(&script)).await;
        assert_eq!(outcome(&job), "disk_limit", "{target}: {job:?}");
        let detail = job.outcome.clone().expect("it ended").detail;
        assert!(detail.contains("filled its disk limit of 64 MiB and exited with 1"), "{detail}");
        let written = String::from_utf8(client.printed(&job.id, Stream::Stdout).await).expect("a number");
        let written: u64 = written.trim().parse().expect("a number");
        assert!((LIMIT * 3 / 4..LIMIT).contains(&written), "{written}");
        assert!(client.artifacts(&job.id).await.iter().any(|artifact| artifact.path[..] == *b"kept"));
        is_clean(&job.id).await;
    }
}

#[tokio::test]
async fn a_container_that_copes_with_a_full_disk_goes_on() {
    let client = Client::connect(cluster()).await;
    let script = "head -c 200m /dev/zero >/tmp_disk/big; rm /tmp_disk/big; echo done >/out/a; chmod 600 /out/a; \
                  stat -c %a /out /tmp_disk; ls -A /out /tmp_disk";
    let mut spec = limited(script);
    spec.user = "1000:1000".to_owned();
    let job = client.run(spec).await;
    assert_eq!(outcome(&job), "succeeded", "{job:?}");
    let seen = String::from_utf8(client.printed(&job.id, Stream::Stdout).await).expect("text");
    assert_eq!(seen, "1777\n1777\n/out:\na\n\n/tmp_disk:\n", "nothing of the file system itself is seen");
    let artifacts = client.artifacts(&job.id).await;
    assert_eq!((artifacts.len(), artifacts[0].size), (1, 5), "{artifacts:?}");
    is_clean(&job.id).await;
}

#[tokio::test]
async fn the_next_agent_collects_from_the_file_system_its_killed_predecessor_made() {
    let mut cluster = start();
    let client = Client::connect(&cluster).await;
    let id =
        client.submit(limited("echo first >/out/a; echo begin; sleep 4; echo second >/out/b; exit 3")).await;
    client.prints(&id, "begin").await;
    cluster.kill_agent(0);
    assert_eq!(left(&id).len(), 2, "one mount and one loop device: {:?}", left(&id));
    cluster.start_agent(0);
    let client = Client::connect(&cluster).await;
    let job = client.ended(&id).await;
    assert_eq!((outcome(&job).as_str(), job.attempts), ("exit_code", 1), "{job:?}");
    assert_eq!(client.artifacts(&id).await.len(), 2);
    is_clean(&id).await;
}

#[tokio::test]
async fn an_agent_killed_at_any_moment_leaves_no_mount_and_no_loop_device() {
    let mut cluster = start();
    let mut jobs = Vec::new();
    for moment in [0, 20, 40, 80, 160] {
        // Starting an agent blocks this thread, longer than a connection keeps.
        let client = Client::connect(&cluster).await;
        let id = client.submit(limited("echo kept >/out/a")).await;
        // What is tried is when it is killed, so nothing is waited for.
        let at = Instant::now() + Duration::from_millis(moment);
        tokio::time::sleep_until(at.into()).await;
        cluster.kill_agent(0);
        cluster.start_agent(0);
        jobs.push(id);
    }
    let client = Client::connect(&cluster).await;
    for id in &jobs {
        let job = client.ended(id).await;
        assert_eq!(outcome(&job), "succeeded", "{job:?}");
        assert_eq!(client.artifacts(id).await.len(), 1, "{job:?}");
        is_clean(id).await;
    }
}

#[tokio::test]
async fn a_cancelled_job_takes_its_file_system_along() {
    let client = Client::connect(cluster()).await;
    let id = client.submit(limited("echo here; sleep 600")).await;
    client.reaches(&id, JobState::Running).await;
    client.prints(&id, "here").await;
    assert!(!left(&id).is_empty());
    cluster().cli().call(&["cancel", &id]).expect(0);
    assert_eq!(outcome(&client.ended(&id).await), "cancelled");
    is_clean(&id).await;
}

#[tokio::test]
async fn what_a_hard_limit_lacks_is_said_with_what_mends_it() {
    let node = Node::with(Config { disk_limit: DiskLimit::Hard, ..Config::default() });
    let info = node.docker.describe().await.expect("it answers");
    let warning = info.warning.expect("nothing can be sized without a scratch folder");
    assert!(warning.contains("the agent has no scratch folder: name one with data_dir"), "{warning}");

    let driver = docker(&["info", "-f", "{{.DockerRootDir}}"]);
    let shown = cluster().cli().call(&["agents", "show", "agent-0"]).expect(0).text();
    assert!(shown.contains("sampled, /out and /tmp_disk hard"), "{shown}");
    assert!(shown.contains(&driver) && shown.contains("mounted with prjquota"), "{shown}");
}
