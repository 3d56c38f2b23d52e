//! What a container may take, and how it is told that it took more.

use longshore_proto::v1::Stream;
use longshore_tests::env::{Client, Cluster, image, outcome, shell};

on_both! {
    a_container_over_its_memory_is_killed_and_says_so
    a_killed_child_does_not_fail_a_main_process_that_goes_on
}

/// Fills the memory of the shell's child: `tail` keeps what it read.
const HOG: &str = "tail -c 200m /dev/zero >/dev/null";

async fn a_container_over_its_memory_is_killed_and_says_so(cluster: &Cluster) {
    let client = Client::connect(cluster).await;
    let job = client.run(shell(&image(), &format!("echo kept >/out/before; exec {HOG}"))).await;
    assert_eq!(outcome(&job), "oom_killed", "{job:?}");
    assert_eq!(job.outcome.as_ref().map(|outcome| outcome.exit_code), Some(137));
    let detail = job.outcome.as_ref().map(|outcome| outcome.detail.clone()).expect("it ended");
    assert!(detail.contains("went over its memory limit of 64 MiB"), "{detail}");
    assert_eq!(client.artifacts(&job.id).await.len(), 1);
}

async fn a_killed_child_does_not_fail_a_main_process_that_goes_on(cluster: &Cluster) {
    let client = Client::connect(cluster).await;
    let job = client.run(shell(&image(), &format!("{HOG}; echo child ended with $?; exit 0"))).await;
    assert_eq!(outcome(&job), "succeeded", "{job:?}");
    assert_eq!(client.printed(&job.id, Stream::Stdout).await, b"child ended with 137\n");
    let attempts = client.get(&job.id).await.attempts;
    let notes = &attempts.last().expect("it was tried").notes;
    assert!(notes.iter().any(|note| note.starts_with("oom_event")), "{notes:?}");
}

#[tokio::test]
async fn a_container_over_its_disk_ends_as_disk_limit() {
    let client = Client::connect(crate::shared::embedded()).await;
    for target in ["/out/big", "/tmp_disk/big", "/big"] {
        let mut spec = shell(&image(), &format!("dd if=/dev/zero of={target} bs=1M count=200; sleep 60"));
        spec.resources.get_or_insert_default().scratch_bytes = Some(64 << 20);
        let job = client.run(spec).await;
        assert_eq!(outcome(&job), "disk_limit", "{target}: {job:?}");
    }
}

#[tokio::test]
async fn a_container_that_ends_at_once_reports_what_it_used() {
    let client = Client::connect(crate::shared::embedded()).await;
    let job = client.run(shell(&image(), "head -c 1m /dev/zero >/out/a")).await;
    assert_eq!(outcome(&job), "succeeded", "{job:?}");
    let attempts = client.get(&job.id).await.attempts;
    let attempt = attempts.last().expect("it was tried");
    let usage = attempt.usage.expect("something is known");
    assert!(usage.cpu_micros > 0 && usage.memory_peak_bytes > 0, "{attempt:?}");
    assert!((1 << 20..8 << 20).contains(&usage.disk_peak_bytes), "{attempt:?}");
    assert!(attempt.started_at.is_some() && attempt.exited_at.is_some(), "{attempt:?}");
}

#[tokio::test]
async fn a_container_may_not_have_more_processes_than_it_asked_for() {
    let client = Client::connect(crate::shared::embedded()).await;
    let mut spec = shell(&image(), "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 5 & done; wait");
    spec.resources.get_or_insert_default().pids = Some(5);
    let job = client.run(spec).await;
    let printed = client.printed(&job.id, Stream::Stderr).await;
    let printed = String::from_utf8_lossy(&printed);
    assert!(printed.contains("fork"), "{job:?}: {printed}");
}

#[tokio::test]
async fn shared_memory_has_the_size_that_was_asked_for() {
    let client = Client::connect(crate::shared::embedded()).await;
    let mut spec = shell(&image(), "df -k /dev/shm | tail -n 1 | awk '{print $2}'");
    spec.resources.get_or_insert_default().shm_bytes = Some(16 << 20);
    let job = client.run(spec).await;
    assert_eq!(client.printed(&job.id, Stream::Stdout).await, b"16384\n", "{job:?}");
}

#[tokio::test]
async fn new_privileges_and_raw_sockets_are_out_of_reach() {
    let client = Client::connect(crate::shared::embedded()).await;
    let job = client.run(shell(&image(), "grep -E '^(NoNewPrivs|CapEff)' /proc/self/status")).await;
    let printed = String::from_utf8_lossy(&client.printed(&job.id, Stream::Stdout).await).into_owned();
    assert!(printed.contains("NoNewPrivs:\t1"), "{printed}");
    let capabilities =
        printed.lines().find_map(|line| line.strip_prefix("CapEff:\t")).expect("a line of them");
    let capabilities = u64::from_str_radix(capabilities, 16).expect("hexadecimal");
    // NET_RAW, MKNOD, AUDIT_WRITE.
    for bit in [13, 27, 29] {
        assert_eq!(capabilities >> bit & 1, 0, "capability {bit} in {capabilities:x}");
    }
}
