use super::*;
use crate::log_store::{since, tail};
use longshore_common::{
    clock::Timestamp,
    ids::{AttemptRef, Epoch, JobId},
    logs::{RecordHeader, Stream, decode},
};

fn key() -> LogKey {
    LogKey(AttemptRef { job: JobId::new(), number: 1, epoch: Epoch(1) })
}

fn record(sequence: u64, stream: Stream, partial: bool, data: &[u8]) -> Bytes {
    let mut out = Vec::new();
    let time = Timestamp::from_micros(i64::try_from(sequence).expect("small") * 1_000);
    RecordHeader { sequence, time, stream, partial }.encode(data, &mut out);
    out.into()
}

fn line(sequence: u64) -> Bytes {
    record(sequence, Stream::Stdout, false, format!("line {sequence}\n").as_bytes())
}

fn store(folder: &tempfile::TempDir) -> Files {
    Files::open(folder.path(), Config::default()).expect("opened")
}

async fn append(store: &Files, key: LogKey, offset: u64, data: Bytes) -> Result<u64, Error> {
    store.append(vec![Append { key, offset, data }]).await.remove(0)
}

/// The sequence numbers from an offset to the end.
async fn sequences(store: &Files, key: LogKey, mut from: u64) -> Vec<u64> {
    let mut found = Vec::new();
    loop {
        let mut bytes = store.read(key, from, 0).await.expect("read");
        if bytes.is_empty() {
            return found;
        }
        from += bytes.len() as u64;
        while let Some((record, used)) = decode(&bytes).expect("well formed") {
            found.push(record.header.sequence);
            bytes = bytes.slice(used..);
        }
    }
}

#[tokio::test]
async fn a_repeat_is_skipped_and_a_hole_is_answered_with_the_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, key) = (store(&folder), key());
    let both = Bytes::from([line(1), line(2)].concat());
    let first = line(1).len() as u64;
    assert_eq!(append(&store, key, 0, line(1)).await.expect("stored"), first);
    assert_eq!(append(&store, key, 0, both.clone()).await.expect("stored"), both.len() as u64);
    assert_eq!(append(&store, key, 0, line(1)).await.expect("known"), both.len() as u64);
    assert_eq!(append(&store, key, 1_000, line(9)).await.expect("answered"), both.len() as u64);
    assert_eq!(store.read(key, 0, 1 << 20).await.expect("read"), both);
    assert_eq!(store.read(key, first, 1 << 20).await.expect("read"), line(2));
    assert!(store.read(key, 5_000, 10).await.expect("read").is_empty());
}

#[tokio::test]
async fn bytes_that_are_not_whole_records_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, key) = (store(&folder), key());
    let cut = line(1).slice(..10);
    assert!(matches!(append(&store, key, 0, cut).await, Err(Error::Malformed(_))));
    let end = append(&store, key, 0, line(1)).await.expect("stored");
    // Overlaps what is stored, but its records begin elsewhere.
    let shifted = Bytes::from([line(1), line(2)].concat());
    assert!(matches!(append(&store, key, end - 3, shifted).await, Err(Error::Malformed(_))));
    assert_eq!(sequences(&store, key, 0).await, [1]);
}

#[tokio::test]
async fn a_torn_end_is_cut_off_at_the_next_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = key();
    let end = append(&store(&folder), key, 0, line(1)).await.expect("stored");
    let path = store(&folder).0.path(key);
    fs::write(&path, [line(1), line(2).slice(..9)].concat()).expect("torn");
    let store = store(&folder);
    assert_eq!(*store.watch(key).await.expect("watched").borrow(), end);
    append(&store, key, end, line(2)).await.expect("stored");
    assert_eq!(sequences(&store, key, 0).await, [1, 2]);
}

#[tokio::test]
async fn an_attempt_after_a_restore_does_not_append_to_the_log_of_its_number_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, before) = (store(&folder), key());
    let after = LogKey(AttemptRef { epoch: Epoch(2), ..before.0 });
    append(&store, before, 0, [line(1), line(2)].concat().into()).await.expect("stored");
    append(&store, after, 0, line(7)).await.expect("stored");
    assert_eq!(sequences(&store, after, 0).await, [7]);
    store.delete(&[before]).await.expect("deleted");
    assert_eq!(sequences(&store, after, 0).await, [7]);
}

#[tokio::test]
async fn followers_are_woken() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, key) = (store(&folder), key());
    let mut end = store.watch(key).await.expect("watched before there is anything");
    let stored = append(&store, key, 0, line(1)).await.expect("stored");
    end.changed().await.expect("told");
    assert_eq!(*end.borrow(), stored);
}

#[tokio::test]
async fn the_cap_holds() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = Config { cap_bytes: 100, ..Config::default() };
    let store = Files::open(folder.path(), config).expect("opened");
    let key = key();
    let end = append(&store, key, 0, line(1)).await.expect("stored");
    let long = record(2, Stream::Stdout, false, &[b'x'; 100]);
    assert!(matches!(append(&store, key, end, long).await, Err(Error::TooLong { cap: 100 })));
    assert_eq!(sequences(&store, key, 0).await, [1]);
}

#[tokio::test]
async fn tails_and_times_are_found_in_a_long_log_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = key();
    let mut end = 0;
    for batch in 0..200_u64 {
        let bytes: Vec<u8> = (0..300).flat_map(|n| line(batch * 300 + n)).collect();
        end = append(&store(&folder), key, end, bytes.into()).await.expect("stored");
    }
    let store = store(&folder);
    assert!(store.boundaries(key).await.expect("known").len() > 4);
    for lines in [0, 1, 300, 20_000, 60_000, 90_000] {
        let from = tail(&store, key, lines, &Stream::ALL).await.expect("found");
        let got = sequences(&store, key, from).await;
        assert_eq!(got.len(), lines.min(60_000) as usize, "tail {lines}");
        assert!(got.windows(2).all(|pair| pair[0] + 1 == pair[1]) && got.last().is_none_or(|n| *n == 59_999));
    }
    let from = since(&store, key, Timestamp::from_micros(45_000 * 1_000)).await.expect("found");
    let first = sequences(&store, key, from).await[0];
    assert!((30_000..=45_000).contains(&first), "{first}");
}

#[tokio::test]
async fn a_tail_counts_lines_of_its_streams_and_keeps_their_pieces() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, key) = (store(&folder), key());
    let log = [
        record(1, Stream::Stdout, false, b"one\n"),
        record(2, Stream::System, false, b"pulling\n"),
        record(3, Stream::Stdout, true, b"tw"),
        record(4, Stream::Stdout, false, b"o\n"),
        record(5, Stream::System, false, b"done\n"),
        record(6, Stream::Stdout, true, b"unterminated"),
    ];
    append(&store, key, 0, log.concat().into()).await.expect("stored");
    for (lines, first) in [(1, 6), (2, 3), (3, 1)] {
        let from = tail(&store, key, lines, &[Stream::Stdout]).await.expect("found");
        assert_eq!(sequences(&store, key, from).await[0], first, "tail {lines}");
    }
}

#[tokio::test]
async fn few_files_stay_open_and_followed_ones_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = Config { open_files: 8, ..Config::default() };
    let store = Files::open(folder.path(), config).expect("opened");
    let followed = key();
    let mut end = store.watch(followed).await.expect("watched");
    for _ in 0..50 {
        append(&store, key(), 0, line(1)).await.expect("stored");
    }
    assert!(store.0.lock().len() <= 9, "{}", store.0.lock().len());
    append(&store, followed, 0, line(1)).await.expect("stored");
    end.changed().await.expect("the follower was not forgotten");
}

#[tokio::test]
async fn deleted_logs_are_empty_and_deleting_again_is_fine() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, key) = (store(&folder), key());
    append(&store, key, 0, line(1)).await.expect("stored");
    for _ in 0..2 {
        store.delete(&[key]).await.expect("deleted");
    }
    assert!(sequences(&store, key, 0).await.is_empty());
}
