//! A `/out` with more names than anybody wants.

use super::*;

async fn collect_as(
    config: Config,
    store: &Store,
    out: &Path,
    outputs: &Outputs,
    within: Duration,
) -> Collected {
    let uploader = Uploader::new(store.controller(), config, &Authorities::default()).unwrap();
    let progress = progress().0;
    uploader.collect(attempt(), out, (outputs, 1 << 30), Instant::now() + within, &progress).await.unwrap()
}

/// Nothing of what is here is kept, but for two files.
fn crowd(entries: u64) -> (tempfile::TempDir, Outputs) {
    let out = tempfile::tempdir().unwrap();
    put(&out.path().join("kept/a"), b"a");
    put(&out.path().join("kept/b"), b"b");
    for number in 0..entries {
        let folder = out.path().join(format!("crowd/{}", number / 1_000));
        if number % 1_000 == 0 {
            fs::create_dir_all(&folder).unwrap();
        }
        fs::File::create(folder.join(number.to_string())).unwrap();
    }
    (out, Outputs { include: vec!["kept/**".to_owned()], ..Outputs::default() })
}

#[tokio::test]
async fn more_entries_than_are_looked_at_are_a_limit_that_is_told() {
    let (store, (out, outputs)) = (Store::start([]).await, crowd(500));
    let config = Config { most_entries: 200, ..Config::default() };
    let collected = collect_as(config, &store, out.path(), &outputs, Duration::from_secs(60)).await;
    let (outcome, detail) = collected.problem.expect("it is told");
    assert_eq!(outcome, Outcome::ArtifactLimit);
    assert!(detail.contains("more than 200 entries"), "{detail}");
    assert_eq!(store.files().len() as u64, collected.count, "what is listed is stored");
    let config = Config { most_entries: 505, ..Config::default() };
    let collected = collect_as(config, &store, out.path(), &outputs, Duration::from_secs(60)).await;
    assert_eq!((collected.count, collected.problem), (2, None), "four folders and files more fit");
}

#[tokio::test]
async fn a_walk_over_what_nobody_keeps_ends_with_the_deadline() {
    let (store, (out, outputs)) = (Store::start([]).await, crowd(5_000));
    let collected = collect_as(Config::default(), &store, out.path(), &outputs, Duration::ZERO).await;
    let (outcome, detail) = collected.problem.expect("it is told");
    assert_eq!(outcome, Outcome::ArtifactUploadFailed);
    assert!(detail.contains("deadline passed"), "{detail}");
}

fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// By hand: `ENTRIES=1000000 cargo test -p longshore-agent a_million_entries -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "makes a million files, which takes minutes"]
async fn a_million_entries_cost_time_and_no_memory() {
    let entries = std::env::var("ENTRIES").map_or(1_000_000, |text| text.parse().unwrap());
    let (store, (out, outputs)) = (Store::start_forgetting().await, crowd(entries));
    for number in 0..20_000 {
        fs::File::create(out.path().join(format!("kept/{number}"))).unwrap();
    }
    let (before, began) = (peak(), Instant::now());
    let collected =
        collect_as(Config::default(), &store, out.path(), &outputs, Duration::from_secs(3600)).await;
    let (took, grown) = (began.elapsed(), peak() - before);
    println!(
        "{entries} entries and 20002 files: {took:?}, {grown} KiB more than before, peak {} KiB",
        peak()
    );
    assert_eq!((collected.count, collected.problem), (20_002, None));
    assert!(grown < 64 << 10, "{grown} KiB");
}
