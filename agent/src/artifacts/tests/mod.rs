//! Whole collections of hostile folders into a store that fails.

mod entries;
mod store;

use super::{folder::Folder, source::Source, *};
use crate::link::Error as LinkError;
use longshore_common::ids::{Epoch, JobId};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::{ffi::OsStrExt as _, fs as unix, fs::PermissionsExt as _},
    time::Duration,
};
use store::{Fault, Store};
use tokio::sync::mpsc;

fn attempt() -> AttemptRef {
    AttemptRef { job: JobId::new(), number: 1, epoch: Epoch(1) }
}

fn progress() -> (Progress, mpsc::Receiver<String>) {
    let (lines, said) = mpsc::channel(100);
    (Progress::new(lines), said)
}

async fn collect(store: &Store, out: &Path, outputs: &Outputs, within: Duration) -> Result<Collected, Error> {
    let uploader = Uploader::new(store.controller(), Config::default(), &Authorities::default()).unwrap();
    uploader.collect(attempt(), out, (outputs, 1 << 30), Instant::now() + within, &progress().0).await
}

async fn collect_all(store: &Store, out: &Path) -> Collected {
    collect(store, out, &Outputs::default(), Duration::from_secs(60)).await.unwrap()
}

fn put(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Bytes without a period that a wrong part order could hide behind.
fn noise(length: usize) -> Vec<u8> {
    (0..length as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

fn names(files: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<String> {
    files.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect()
}

#[tokio::test]
async fn nothing_makes_no_call() {
    let (store, out) = (Store::start([]).await, tempfile::tempdir().unwrap());
    assert_eq!(collect_all(&store, out.path()).await, Collected::default());
    assert_eq!(store.requests(), 0);
}

#[tokio::test]
async fn bytes_names_modes_and_sizes_are_kept() {
    let (store, out) = (Store::start([]).await, tempfile::tempdir().unwrap());
    let odd = out.path().join(std::ffi::OsStr::from_bytes(b"new\nline \xff\xfe"));
    put(&odd, b"odd");
    put(&out.path().join("empty"), b"");
    put(&out.path().join("d/e/large"), &noise(700_000));
    put(&out.path().join("d/parts"), &noise(3_500_000));
    fs::set_permissions(&odd, fs::Permissions::from_mode(0o640)).unwrap();
    fs::hard_link(&odd, out.path().join("d/hard")).unwrap();
    let collected = collect_all(&store, out.path()).await;
    assert_eq!((collected.count, collected.bytes, collected.pages), (5, 4_200_006, 1));
    assert_eq!((collected.problem, collected.notes), (None, vec![]));
    let files = store.files();
    assert_eq!(files[&b"new\nline \xff\xfe"[..]], b"odd");
    assert_eq!(files[&b"d/hard"[..]], b"odd");
    assert_eq!(files[&b"d/e/large"[..]], noise(700_000));
    assert_eq!(files[&b"d/parts"[..]], noise(3_500_000));
    let mode = store.entries().iter().find(|e| e.artifact.path == b"d/hard").unwrap().artifact.mode;
    assert_eq!(mode, 0o640);
}

#[tokio::test]
async fn no_link_is_followed_and_nothing_but_files_is_read() {
    let (store, out) = (Store::start([]).await, tempfile::tempdir().unwrap());
    put(&out.path().join("real"), b"mine");
    unix::symlink("/etc/passwd", out.path().join("passwd")).unwrap();
    unix::symlink("/etc", out.path().join("etc")).unwrap();
    unix::symlink("../../..", out.path().join("up")).unwrap();
    unix::symlink("loop", out.path().join("loop")).unwrap();
    let pipe = std::process::Command::new("mkfifo").arg(out.path().join("pipe")).status().unwrap();
    assert!(pipe.success());
    let _socket = std::os::unix::net::UnixListener::bind(out.path().join("socket")).unwrap();
    let collected = collect_all(&store, out.path()).await;
    assert_eq!(names(&store.files()), ["real"]);
    let mut notes = collected.notes;
    notes.sort();
    assert_eq!(notes.len(), 6, "{notes:?}");
    assert_eq!(notes[3], "`pipe`: a named pipe, not stored");
    assert_eq!(notes[4], "`socket`: a socket, not stored");
    assert!(notes.iter().filter(|note| note.ends_with("a symbolic link, not stored")).count() == 4);
    assert_eq!(collected.problem, None);
}

#[test]
fn a_file_swapped_after_the_walk_is_not_followed() {
    let (out, secret) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    put(&secret.path().join("file"), b"secret");
    put(&out.path().join("a"), b"a");
    put(&out.path().join("d/file"), b"b");
    let folder = Folder::open(out.path()).unwrap();
    assert!(Source::open(&folder, b"d/file").unwrap().is_some());
    fs::remove_file(out.path().join("a")).unwrap();
    unix::symlink(secret.path().join("file"), out.path().join("a")).unwrap();
    fs::rename(out.path().join("d"), out.path().join("old")).unwrap();
    unix::symlink(secret.path(), out.path().join("d")).unwrap();
    for swapped in [&b"a"[..], b"d/file", b"gone", b"old"] {
        assert!(Source::open(&folder, swapped).unwrap().is_none());
    }
}

#[tokio::test]
async fn deep_and_wide_folders_are_walked_whole() {
    let (store, out) = (Store::start([]).await, tempfile::tempdir().unwrap());
    let mut expected = Vec::new();
    let mut dir = String::new();
    for depth in 0..100 {
        for file in ["before", "x"] {
            put(&out.path().join(&dir).join(file), b"");
            expected.push(format!("{dir}{file}"));
        }
        for side in 0..3 {
            put(&out.path().join(&dir).join(format!("side{side}/f")), b"");
            expected.push(format!("{dir}side{side}/f"));
        }
        dir.push_str(&format!("level{depth}/"));
    }
    let collected = collect_all(&store, out.path()).await;
    expected.sort();
    assert_eq!(collected.count, 500);
    assert_eq!(names(&store.files()), expected);
}

#[tokio::test]
async fn names_longer_than_a_path_are_told() {
    let (store, out) = (Store::start([]).await, tempfile::tempdir().unwrap());
    put(&out.path().join("a"), b"");
    let name = "n".repeat(250);
    let mut dir = rustix::fs::openat(
        rustix::fs::CWD,
        out.path(),
        rustix::fs::OFlags::DIRECTORY,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    for _ in 0..20 {
        rustix::fs::mkdirat(&dir, &name, rustix::fs::Mode::RWXU).unwrap();
        dir = rustix::fs::openat(&dir, &name, rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty())
            .unwrap();
    }
    let collected = collect_all(&store, out.path()).await;
    assert_eq!(names(&store.files()), ["a"]);
    assert!(collected.notes[0].ends_with(": name is too long"), "{:?}", collected.notes);
}

#[tokio::test]
async fn a_tree_deeper_than_any_path_is_told_and_the_rest_is_stored() {
    let (store, home) = (Store::start([]).await, tempfile::tempdir().unwrap());
    let out = home.path().join("out");
    put(&out.join("a"), b"");
    drop(crate::tree::tests::nest(&out, 20_000));
    put(&out.join("d/d/b"), b"");
    let collected = collect_all(&store, &out).await;
    crate::tree::remove(&out).unwrap();
    assert_eq!(names(&store.files()), ["a", "d/d/b"]);
    assert_eq!((collected.problem, collected.notes.len()), (None, 1));
    let note = &collected.notes[0];
    assert!(note.len() < 400 && note.ends_with(": name is too long"), "{note}");
}

#[tokio::test]
async fn many_files_fill_several_pages() {
    let (store, out) = (Store::start([]).await, tempfile::tempdir().unwrap());
    for n in 0..5_100 {
        put(&out.path().join(format!("{:02}/{n}", n % 50)), b"x");
    }
    let collected = collect_all(&store, out.path()).await;
    assert_eq!((collected.count, collected.bytes, collected.pages), (5_100, 5_100, 2));
    assert_eq!(store.files().len(), 5_100);
    let mut ordinals: Vec<_> = store.entries().iter().map(|entry| entry.ordinal).collect();
    ordinals.sort_unstable();
    assert_eq!(ordinals, (0..5_100).collect::<Vec<_>>());
    assert!(store.opens() < 40, "addresses are asked for in batches: {}", store.opens());
}

#[tokio::test]
async fn what_fits_the_limits_is_kept_and_the_rest_told() {
    let out = tempfile::tempdir().unwrap();
    for n in 0..10 {
        put(&out.path().join(format!("small{n}")), b"0123456789");
    }
    put(&out.path().join("large"), &noise(5000));
    let store = Store::start([]).await;
    let outputs = Outputs { max_size_bytes: 4096, ..Outputs::default() };
    let collected = collect(&store, out.path(), &outputs, Duration::from_secs(60)).await.unwrap();
    assert_eq!(collected.count, 10);
    let told = "1 files with 4.9 KiB left out above the 4 KiB of outputs.max_size, first `large`";
    assert_eq!(collected.problem, Some((Outcome::ArtifactLimit, told.to_owned())));
    let sparse = fs::File::create(out.path().join("sparse")).unwrap();
    sparse.set_len(5 << 30).unwrap();
    let store = Store::start([]).await;
    let collected = collect(&store, out.path(), &Outputs::default(), Duration::from_secs(60)).await.unwrap();
    assert_eq!(collected.count, 11);
    let told = "1 files with 5 GiB left out above the 4 GiB of four times resources.scratch, first `sparse`";
    assert_eq!(collected.problem, Some((Outcome::ArtifactLimit, told.to_owned())));
    let store = Store::start([]).await;
    let outputs = Outputs { max_files: 4, exclude: vec!["large".into()], ..Outputs::default() };
    let collected = collect(&store, out.path(), &outputs, Duration::from_secs(60)).await.unwrap();
    assert_eq!((collected.count, store.files().len()), (4, 4));
    let told = "/out has more than the 4 files of outputs.max_files";
    assert_eq!(collected.problem, Some((Outcome::ArtifactLimit, told.to_owned())));
}

#[tokio::test]
async fn failing_answers_and_cut_connections_are_tried_again() {
    let faults = [Fault::Status(500), Fault::Status(403), Fault::Status(503), Fault::Status(404)];
    let store = Store::start_cutting(faults, 3).await;
    let out = tempfile::tempdir().unwrap();
    for n in 0..20 {
        put(&out.path().join(format!("{n}")), &noise(1000 + n));
    }
    put(&out.path().join("parts"), &noise(5_000_000));
    let collected = collect_all(&store, out.path()).await;
    assert_eq!((collected.count, collected.problem), (21, None));
    assert_eq!(store.files()[&b"parts"[..]], noise(5_000_000));
}

#[tokio::test]
async fn a_part_is_tried_again_alone() {
    let store = Store::start([Fault::Status(500), Fault::Status(500)]).await;
    let out = tempfile::tempdir().unwrap();
    put(&out.path().join("parts"), &noise(6_000_000));
    let collected = collect_all(&store, out.path()).await;
    assert_eq!((collected.count, collected.problem), (1, None));
    assert_eq!((store.opens(), store.requests()), (1, 8), "6 parts, two of them twice");
}

#[tokio::test]
async fn parts_of_a_try_that_was_refused_do_not_stay() {
    let store = Store::start([Fault::Status(507), Fault::Status(507)]).await;
    let out = tempfile::tempdir().unwrap();
    put(&out.path().join("parts"), &noise(3_000_000));
    assert_eq!(collect_all(&store, out.path()).await.count, 1);
    assert_eq!(
        store.given_up().len() + 1,
        store.opens(),
        "every upload but the last one: {:?}",
        store.given_up()
    );
    assert!(store.opens() > 1);
}

#[tokio::test]
async fn a_store_without_room_is_named_at_the_deadline() {
    let store = Store::start((0..1000).map(|_| Fault::Status(507))).await;
    let out = tempfile::tempdir().unwrap();
    put(&out.path().join("model"), b"x");
    let within = Duration::from_millis(700);
    let collected = collect(&store, out.path(), &Outputs::default(), within).await.unwrap();
    let (outcome, detail) = collected.problem.unwrap();
    assert_eq!(outcome, Outcome::ArtifactUploadFailed);
    let told =
        "the upload deadline passed: `model`: the store answered 507 Insufficient Storage: said by the test";
    assert_eq!(detail, told);
}

#[tokio::test]
async fn a_silent_controller_is_asked_again_and_a_fence_ends_all() {
    let out = tempfile::tempdir().unwrap();
    put(&out.path().join("a"), b"a");
    let store = Store::start([]).await;
    store.fail_controller([LinkError::Unreachable("away".into()), LinkError::Unreachable("away".into())]);
    assert_eq!(collect_all(&store, out.path()).await.count, 1);
    store.fail_controller([LinkError::Fenced("attempt 2 has it".into())]);
    let fenced = collect(&store, out.path(), &Outputs::default(), Duration::from_secs(60)).await;
    assert!(matches!(fenced, Err(Error::Fenced(_))), "{fenced:?}");
}

#[tokio::test]
async fn a_file_that_became_shorter_counts_as_it_was_read() {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("shrinks");
    put(&path, &noise(400_000));
    let folder = Folder::open(out.path()).unwrap();
    let source = Source::open(&folder, b"shrinks").unwrap().unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(300_000).unwrap();
    let (mut pieces, reading) = source.stream(0, source.size);
    while pieces.recv().await.is_some() {}
    assert_eq!(reading.digest().await.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    assert!(!source.is_unchanged());
}

/// Not a test of correctness: `cargo test --release -p longshore-agent -- --ignored --nocapture speed_of_a_collection`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn speed_of_a_collection() {
    let (store, out) = (Store::start_forgetting().await, tempfile::tempdir().unwrap());
    for n in 0..20_000 {
        put(&out.path().join(format!("{:03}/{n}", n % 100)), b"small artifact");
    }
    let before = std::time::Instant::now();
    assert_eq!(collect_all(&store, out.path()).await.count, 20_000);
    println!("20,000 small files in {:?}", before.elapsed());
    let (before, count) = (std::time::Instant::now(), 20_000);
    store.put_plainly(count).await;
    println!("{count} plain PUTs, 8 at a time, in {:?}", before.elapsed());

    let out = tempfile::tempdir().unwrap();
    let file = fs::File::create(out.path().join("large")).unwrap();
    file.set_len(1 << 30).unwrap();
    let resident = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        status.lines().find(|line| line.starts_with("VmHWM")).unwrap().to_owned()
    };
    let (before, resident_before) = (std::time::Instant::now(), resident());
    assert_eq!(collect_all(&store, out.path()).await.bytes, 1 << 30);
    println!("1 GiB in {:?}, {resident_before} -> {}", before.elapsed(), resident());
}
