//! Logs byte for byte: large, binary, split at any border, unterminated, and of containers that end at once.

use futures::future::join_all;
use longshore_proto::v1::{LogRecord, Stream, StreamLogsRequest};
use longshore_tests::env::{Client, Cluster, PATIENCE, image, outcome, shell};
use sha2::{Digest as _, Sha256};

on_both! {
    sixty_mebibytes_of_log_lose_no_byte
    binary_output_and_emoji_come_back_as_they_were
    a_last_line_without_an_end_is_there
    a_log_can_be_read_on_from_any_offset
}

async fn sixty_mebibytes_of_log_lose_no_byte(cluster: &Cluster) {
    let client = Client::connect(cluster).await;
    // stdout alone: the digest is made beside it from the same bytes.
    let script = "mkfifo /tmp/p; sha256sum </tmp/p >/out/sum & \
                  seq 100000000 107999999 | head -c 62914560 | tee /tmp/p; wait";
    let job = client.run(shell(&image(), script)).await;
    assert_eq!(outcome(&job), "succeeded", "{job:?}");
    let printed = client.printed(&job.id, Stream::Stdout).await;
    assert_eq!(printed.len(), 60 << 20);
    let digest = hex::encode(Sha256::digest(&printed));
    let cli = cluster.cli();
    cli.call(&["artifacts", "get", &job.id, "--out", "result"]).expect(0);
    let made = std::fs::read_to_string(cli.folder().join("result/sum")).expect("the digest came back");
    assert_eq!(made.split_whitespace().next(), Some(digest.as_str()));
}

async fn binary_output_and_emoji_come_back_as_they_were(cluster: &Cluster) {
    let client = Client::connect(cluster).await;
    // Every byte value, a long run without any newline, and a family of emoji in single-byte writes.
    let script = r#"
        i=0; while [ $i -lt 256 ]; do printf "\\$(printf %03o $i)"; i=$((i + 1)); done
        head -c 100000 /dev/zero | tr '\0' 'x'; printf '\n'
        printf '👩‍👩‍👧‍👦\n' | while IFS= read -r -n 1 byte; do printf '%s' "$byte"; done; printf '\n'"#;
    let job = client.run(shell(&image(), script)).await;
    let printed = client.printed(&job.id, Stream::Stdout).await;
    let bytes: Vec<u8> = (0..=255).collect();
    assert_eq!(&printed[..256], bytes);
    assert_eq!(&printed[256..100_256], vec![b'x'; 100_000]);
    assert_eq!(String::from_utf8_lossy(&printed[100_256..]), "\n👩‍👩‍👧‍👦\n");
    let by_cli = cluster.cli().call(&["logs", &job.id]).expect(0);
    assert_eq!(by_cli.stdout, printed);
}

async fn a_last_line_without_an_end_is_there(cluster: &Cluster) {
    let client = Client::connect(cluster).await;
    let job = client.run(shell(&image(), "printf 'first\nlast'")).await;
    assert_eq!(client.printed(&job.id, Stream::Stdout).await, b"first\nlast");
}

async fn a_log_can_be_read_on_from_any_offset(cluster: &Cluster) {
    let client = Client::connect(cluster).await;
    let job = client.run(shell(&image(), "for i in $(seq 200); do echo line $i; done")).await;
    let whole = client.records(&job.id).await.expect("read the log");
    let mut seen: Vec<LogRecord> = Vec::new();
    let mut offset = 0;
    loop {
        let request = StreamLogsRequest { job: job.id.clone(), offset, follow: true, ..Default::default() };
        let mut stream = client.jobs.clone().stream_logs(request).await.expect("follow").into_inner();
        // One message at a time, as over a link that breaks after each.
        let Some(page) = stream.message().await.expect("a page") else { break };
        seen.extend(page.records);
        offset = page.next_offset;
        if page.end {
            break;
        }
    }
    assert_eq!(seen, whole);
}

#[tokio::test]
async fn of_500_containers_that_end_at_once_no_line_is_lost() {
    let client = Client::connect(crate::shared::embedded()).await;
    let image = image();
    let jobs = join_all((0..500).map(|number| {
        let mut spec = shell(&image, &format!("printf 'I am {number}'"));
        spec.resources.get_or_insert_default().cpu_millis = Some(10);
        spec.resources.get_or_insert_default().memory_bytes = Some(8 << 20);
        client.submit(spec)
    }))
    .await;
    let mut missing = Vec::new();
    for (number, id) in jobs.iter().enumerate() {
        let job = client.ended_within(4 * PATIENCE, id).await;
        let printed = client.printed(id, Stream::Stdout).await;
        if outcome(&job) != "succeeded" || printed != format!("I am {number}").into_bytes() {
            missing.push((number, outcome(&job), String::from_utf8_lossy(&printed).into_owned()));
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}

#[tokio::test]
async fn a_line_is_seen_soon_after_it_was_printed() {
    let client = Client::connect(crate::shared::embedded()).await;
    // Each line is the machine's uptime when it was printed: container and test share that clock.
    let script = "for i in 1 2 3 4 5 6 7 8 9; do cut -d ' ' -f 1 /proc/uptime; usleep 300000; done";
    let id = client.submit(shell(&image(), script)).await;
    let request = StreamLogsRequest { job: id.clone(), follow: true, ..Default::default() };
    let mut stream = client.jobs.clone().stream_logs(request).await.expect("follow").into_inner();
    let mut delays = Vec::new();
    while let Some(page) = stream.message().await.expect("a page") {
        let now = uptime();
        for record in page.records.iter().filter(|record| record.stream() == Stream::Stdout) {
            let printed: f64 = String::from_utf8_lossy(&record.data).trim().parse().expect("a time");
            delays.push(now - printed);
        }
    }
    delays.sort_by(f64::total_cmp);
    assert_eq!(delays.len(), 9);
    // The middle one: the machine of the tests is busy with the other stories.
    assert!(delays[4] < 0.25, "{delays:?}");
}

fn uptime() -> f64 {
    let text = std::fs::read_to_string("/proc/uptime").expect("read the uptime");
    text.split_whitespace().next().and_then(|seconds| seconds.parse().ok()).expect("it begins with seconds")
}
