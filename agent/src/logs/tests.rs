//! The whole way from chunks to a controller that loses, refuses and goes away.

use super::*;
use crate::link::{Claimed, CompletedUpload, Error as LinkError, InputPage, LogAppend, WantedUpload};
use async_trait::async_trait;
use longshore_common::{
    agent::{FinishReport, Offer},
    artifact::{ManifestEntry, UploadTarget},
    ids::{ClaimId, Epoch, JobId},
    logs::{Record, decode},
    queue::Lane,
};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Mutex,
    time::Duration,
};
use tokio::sync::Notify;

/// What the controller does with the next append instead of storing it.
#[derive(Debug)]
enum Fault {
    /// Nothing is stored and nobody answers.
    Away,
    /// All is stored, and the answer is lost.
    AnswerLost,
    /// Only so many bytes survive, whole records or not.
    Keeps(usize),
    Fenced,
    Refused,
}

#[derive(Debug, Default)]
struct FakeController {
    stored: Mutex<HashMap<AttemptRef, Vec<u8>>>,
    faults: Mutex<VecDeque<Fault>>,
    calls: Mutex<Vec<usize>>,
    changed: Notify,
    away: std::sync::atomic::AtomicBool,
}

impl FakeController {
    fn with(faults: impl IntoIterator<Item = Fault>) -> Arc<Self> {
        Arc::new(Self { faults: Mutex::new(faults.into_iter().collect()), ..Self::default() })
    }

    fn records(&self, attempt: AttemptRef) -> Vec<Record> {
        let mut bytes = Bytes::from(self.stored.lock().unwrap().get(&attempt).cloned().unwrap_or_default());
        let mut records = Vec::new();
        while let Some((record, used)) = decode(&bytes).unwrap() {
            records.push(record);
            bytes = bytes.slice(used..);
        }
        assert!(bytes.is_empty(), "only whole records arrive");
        records
    }

    fn text(&self, attempt: AttemptRef, stream: Stream) -> Vec<u8> {
        let of_stream = |record: &Record| record.header.stream == stream;
        self.records(attempt).into_iter().filter(of_stream).flat_map(|record| record.data).collect()
    }

    async fn wait_for(&self, condition: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.changed.notified();
            if condition(self) {
                return;
            }
            changed.await;
        }
    }

    fn set_away(&self, away: bool) {
        self.away.store(away, std::sync::atomic::Ordering::SeqCst);
    }

    fn append(&self, append: &LogAppend) -> Result<u64, LinkError> {
        let mut stored = self.stored.lock().unwrap();
        let log = stored.entry(append.attempt).or_default();
        let fault = self.faults.lock().unwrap().pop_front();
        match fault {
            Some(Fault::Fenced) => return Err(LinkError::Fenced("newer attempt".into())),
            Some(Fault::Refused) => return Err(LinkError::Refused("no such job".into())),
            Some(Fault::Away) => return Err(LinkError::Unreachable("cut".into())),
            Some(Fault::Keeps(bytes)) => {
                log.extend_from_slice(&append.data);
                let keep = longshore_common::logs::whole_records(&log[..bytes.min(log.len())]).unwrap();
                log.truncate(keep);
                return Ok(log.len() as u64);
            }
            Some(Fault::AnswerLost) | None => {}
        }
        if append.offset <= log.len() as u64 {
            log.truncate(usize::try_from(append.offset).unwrap());
            log.extend_from_slice(&append.data);
        }
        match fault {
            Some(Fault::AnswerLost) => Err(LinkError::Unreachable("answer lost".into())),
            _ => Ok(log.len() as u64),
        }
    }
}

#[async_trait]
impl Controller for FakeController {
    async fn append_logs(&self, appends: Vec<LogAppend>) -> Result<Vec<Result<u64, LinkError>>, LinkError> {
        self.calls.lock().unwrap().push(appends.iter().map(|append| append.data.len()).sum());
        let answer = if self.away.load(std::sync::atomic::Ordering::SeqCst) {
            Err(LinkError::Unreachable("away".into()))
        } else {
            Ok(appends.iter().map(|append| self.append(append)).collect())
        };
        self.changed.notify_waiters();
        answer
    }

    async fn claim(&self, _: ClaimId, _: Offer, _: BTreeMap<Lane, u32>) -> Result<Claimed, LinkError> {
        Err(LinkError::Refused("logs only".into()))
    }
    async fn resume_log(&self, _: AttemptRef) -> Result<Position, LinkError> {
        Err(LinkError::Refused("logs only".into()))
    }
    async fn fetch_input(&self, _: AttemptRef, _: &str, _: Option<String>) -> Result<InputPage, LinkError> {
        Err(LinkError::Refused("logs only".into()))
    }
    async fn open_uploads(
        &self,
        _: AttemptRef,
        _: Vec<WantedUpload>,
    ) -> Result<Vec<UploadTarget>, LinkError> {
        Err(LinkError::Refused("logs only".into()))
    }
    async fn complete_uploads(&self, _: AttemptRef, _: Vec<CompletedUpload>) -> Result<(), LinkError> {
        Err(LinkError::Refused("logs only".into()))
    }
    async fn put_manifest(&self, _: AttemptRef, _: u32, _: Vec<ManifestEntry>) -> Result<(), LinkError> {
        Err(LinkError::Refused("logs only".into()))
    }
    async fn finish(&self, _: FinishReport) -> Result<(), LinkError> {
        Err(LinkError::Refused("logs only".into()))
    }
}

fn attempt() -> AttemptRef {
    AttemptRef { job: JobId::new(), number: 1, epoch: Epoch(1) }
}

fn small() -> Config {
    Config { memory_bytes: 4 << 10, ..Config::default() }
}

fn start(controller: &Arc<FakeController>, config: Config) -> (LogShipper, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let controller: Arc<dyn Controller> = Arc::clone(controller) as _;
    (LogShipper::start(controller, dir.path(), config).unwrap(), dir)
}

fn files(dir: &tempfile::TempDir) -> usize {
    std::fs::read_dir(dir.path()).unwrap().count()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

fn lines(count: usize) -> Bytes {
    (0..count).flat_map(|n| format!("line {n} of the log\n").into_bytes()).collect()
}

async fn write(sink: &LogSink, stream: Stream, data: &Bytes) {
    for chunk in data.chunks(1000) {
        sink.chunk(stream, Bytes::copy_from_slice(chunk)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_arrives_whole_and_in_order() {
    let controller = FakeController::with([]);
    let (shipper, dir) = start(&controller, small());
    let (attempt, data) = (attempt(), lines(5000));
    let sink = shipper.open(attempt);
    sink.system("image 3f9c01d2 already here").await;
    write(&sink, Stream::Stdout, &data).await;
    sink.chunk(Stream::Stderr, Bytes::from_static(b"no newline at the end \xf0\x9f\x98")).await;
    let closed = sink.close().await;
    assert_eq!(closed.shipped(soon()).await, Shipped::Stored);
    assert_eq!(controller.text(attempt, Stream::Stdout), data);
    assert_eq!(controller.text(attempt, Stream::Stderr), b"no newline at the end \xf0\x9f\x98");
    assert_eq!(controller.text(attempt, Stream::System), b"image 3f9c01d2 already here\n");
    let records = controller.records(attempt);
    assert!(records.iter().enumerate().all(|(n, record)| record.header.sequence == n as u64));
    assert_eq!(closed.end(), controller.stored.lock().unwrap()[&attempt].len() as u64);
    assert_eq!(files(&dir), 1);
    closed.remove().await;
    assert_eq!(files(&dir), 0);
}

#[tokio::test(start_paused = true)]
async fn a_small_log_makes_no_file() {
    let controller = FakeController::with([]);
    let (shipper, dir) = start(&controller, Config::default());
    let sink = shipper.open(attempt());
    write(&sink, Stream::Stdout, &lines(100)).await;
    let closed = sink.close().await;
    assert_eq!(closed.shipped(soon()).await, Shipped::Stored);
    assert_eq!(files(&dir), 0);
}

#[tokio::test(start_paused = true)]
async fn an_empty_log_is_stored_without_a_call() {
    let controller = FakeController::with([]);
    let (shipper, _dir) = start(&controller, Config::default());
    let closed = shipper.open(attempt()).close().await;
    assert_eq!((closed.end(), closed.shipped(soon()).await), (0, Shipped::Stored));
    assert!(controller.calls.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_unfinished_line_shows_after_a_tenth_of_a_second() {
    let controller = FakeController::with([]);
    let (shipper, _dir) = start(&controller, Config::default());
    let attempt = attempt();
    let sink = shipper.open(attempt);
    let before = Instant::now();
    sink.chunk(Stream::Stdout, Bytes::from_static("50%|██".as_bytes())).await;
    controller.wait_for(|controller| !controller.records(attempt).is_empty()).await;
    assert!(before.elapsed() >= Duration::from_millis(100) && before.elapsed() < Duration::from_millis(150));
    sink.chunk(Stream::Stdout, Bytes::from_static(b"\r60%|\n")).await;
    sink.close().await.shipped(soon()).await;
    let partial: Vec<_> = controller.records(attempt).iter().map(|record| record.header.partial).collect();
    assert_eq!(partial, [true, false, false]);
}

#[tokio::test(start_paused = true)]
async fn lost_calls_lost_answers_and_lost_bytes_are_sent_again() {
    let faults =
        [Fault::Away, Fault::AnswerLost, Fault::Keeps(3000), Fault::Away, Fault::Keeps(0), Fault::Keeps(70)];
    let controller = FakeController::with(faults);
    let (shipper, _dir) = start(&controller, small());
    let (attempt, data) = (attempt(), lines(3000));
    let sink = shipper.open(attempt);
    write(&sink, Stream::Stdout, &data).await;
    let closed = sink.close().await;
    assert_eq!(closed.shipped(soon()).await, Shipped::Stored);
    assert_eq!(controller.text(attempt, Stream::Stdout), data);
    assert!(controller.faults.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_is_away_for_long_costs_nothing_but_time() {
    let controller = FakeController::with([]);
    controller.set_away(true);
    let (shipper, _dir) = start(&controller, small());
    let (attempt, data) = (attempt(), lines(20_000));
    let sink = shipper.open(attempt);
    write(&sink, Stream::Stdout, &data).await;
    let closed = sink.close().await;
    assert_eq!(closed.shipped(Instant::now() + Duration::from_secs(600)).await, Shipped::Late);
    let calls = controller.calls.lock().unwrap().len();
    assert!((100..400).contains(&calls), "{calls} calls in ten minutes");
    controller.set_away(false);
    assert_eq!(closed.shipped(soon()).await, Shipped::Stored);
    assert_eq!(controller.text(attempt, Stream::Stdout), data);
}

#[tokio::test(start_paused = true)]
async fn fenced_and_refused_logs_end_alone() {
    let controller = FakeController::with([Fault::Fenced, Fault::Refused]);
    let (shipper, _dir) = start(&controller, Config::default());
    let mut ends = Vec::new();
    for _ in 0..3 {
        let sink = shipper.open(attempt());
        sink.chunk(Stream::Stdout, Bytes::from_static(b"hello\n")).await;
        ends.push(sink.close().await.shipped(soon()).await);
    }
    assert_eq!(ends, [Shipped::Fenced, Shipped::Refused("no such job".into()), Shipped::Stored]);
}

#[tokio::test(start_paused = true)]
async fn calls_carry_many_logs_and_stay_below_their_size() {
    let controller = FakeController::with([]);
    controller.set_away(true);
    let (shipper, _dir) = start(&controller, Config { call_bytes: 512 << 10, ..small() });
    let data = lines(10_000);
    let mut closed = Vec::new();
    for _ in 0..20 {
        let sink = shipper.open(attempt());
        write(&sink, Stream::Stdout, &data).await;
        closed.push(sink.close().await);
    }
    controller.calls.lock().unwrap().clear();
    controller.set_away(false);
    for log in closed {
        assert_eq!(log.shipped(soon()).await, Shipped::Stored);
    }
    let calls = controller.calls.lock().unwrap();
    assert!(calls.iter().all(|bytes| *bytes <= 512 << 10), "{calls:?}");
    assert!(calls.len() < 40, "{} calls", calls.len());
}

#[tokio::test(start_paused = true)]
async fn after_the_cap_the_log_says_so_and_goes_on_for_longshore() {
    let controller = FakeController::with([]);
    let (shipper, _dir) = start(&controller, Config { cap_bytes: 1 << 20, ..small() });
    let (attempt, data) = (attempt(), lines(100_000));
    let sink = shipper.open(attempt);
    write(&sink, Stream::Stdout, &data).await;
    sink.system("the container ended").await;
    sink.close().await.shipped(soon()).await;
    let stored = controller.text(attempt, Stream::Stdout);
    assert!(data.starts_with(&stored) && stored.len() > (1 << 20) - 100 && stored.len() <= 1 << 20);
    let discarded = data.len() - stored.len();
    let expected = format!(
        "log limit of 1 MiB reached: later output is discarded\nthe container ended\n\
         {discarded} bytes of output were discarded after the log limit\n"
    );
    assert_eq!(String::from_utf8(controller.text(attempt, Stream::System)).unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn empty_lines_reach_the_cap_by_their_frames() {
    let controller = FakeController::with([]);
    let (shipper, _dir) = start(&controller, Config { cap_bytes: 1 << 20, ..small() });
    let attempt = attempt();
    let sink = shipper.open(attempt);
    for _ in 0..20 {
        sink.chunk(Stream::Stdout, Bytes::from(vec![b'\n'; 50_000])).await;
    }
    sink.close().await.shipped(soon()).await;
    assert!(controller.stored.lock().unwrap()[&attempt].len() <= 4 << 20);
    assert!(controller.text(attempt, Stream::System).starts_with(b"log limit of 1 MiB reached"));
}

#[tokio::test(start_paused = true)]
async fn a_disk_without_room_leaves_a_gap_that_is_told() {
    let controller = FakeController::with([]);
    let (shipper, dir) = start(&controller, small());
    controller.set_away(true);
    let (attempt, data) = (attempt(), lines(2_000));
    let sink = shipper.open(attempt);
    dir.close().unwrap();
    write(&sink, Stream::Stdout, &data).await;
    controller.set_away(false);
    controller.wait_for(|controller| !controller.text(attempt, Stream::Stdout).is_empty()).await;
    sink.chunk(Stream::Stdout, Bytes::from_static(b"after\n")).await;
    sink.close().await.shipped(soon()).await;
    let stored = controller.text(attempt, Stream::Stdout);
    let stored = stored.strip_suffix(b"after\n").unwrap();
    assert!(data.starts_with(stored) && stored.len() >= 1 << 10);
    let gap = String::from_utf8(controller.text(attempt, Stream::System)).unwrap();
    let told = format!("gap: {} bytes of output were dropped here", data.len() - stored.len());
    assert!(gap.starts_with(&told), "{gap} {told}");
}

/// Not a test of correctness: `cargo test --release -p longshore-agent -- --ignored --nocapture speed_of_a_log`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn speed_of_a_log() {
    let controller = FakeController::with([]);
    let (shipper, _dir) = start(&controller, Config::default());
    let sink = shipper.open(attempt());
    let line = [vec![b'x'; 99], vec![b'\n']].concat();
    let chunk = Bytes::from(line.repeat(16 * 1024 / 100));
    let chunks = (60 << 20) / chunk.len();
    let before = std::time::Instant::now();
    for _ in 0..chunks {
        sink.chunk(Stream::Stdout, chunk.clone()).await;
    }
    let taken = before.elapsed();
    assert_eq!(sink.close().await.shipped(soon()).await, Shipped::Stored);
    println!("60 MiB taken in {taken:?}, stored in {:?}", before.elapsed());
}
