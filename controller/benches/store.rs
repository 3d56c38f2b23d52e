//! How many jobs a second the commands take through submit, claim, phase and finish, without network or containers,
//! beside the floor of the same disk: commits of one row with the same durability.
//! `cargo bench -p longshore-controller --bench store [JOBS]`

use longshore_common::{
    agent::{Capacity, FinishReport, HeldAttempt, Offer, Usage},
    ids::{AgentId, ClaimId},
    job::{JobSpec, JobState, Outcome, resources::GIB},
    queue::Lane,
    tasks,
};
use longshore_controller::{
    jobs::{ClaimCommand, Config, Jobs, NewJob},
    store::{self, Store},
};
use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::Write as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

const SUBMITTERS: usize = 4;
const AGENTS: usize = 4;
const SLOTS: u32 = 64;
const BATCH: usize = 50;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let jobs = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(20_000_usize);
    let folder = tempfile::tempdir_in(".").expect("a folder on the disk to measure");
    println!("fsync of one page: {:.0}/s", fsyncs(folder.path()));
    let path = folder.path().join("bench.db");
    let store = Store::open(&store::Config { path, ..store::Config::default() }).await.expect("opens");
    let handle = Jobs::start(store, Config::default()).await.expect("starts");

    let start = Instant::now();
    fill(&handle, jobs).await;
    rate("submit alone", jobs, start);
    let start = Instant::now();
    empty(&handle, jobs).await;
    rate("claim, phase and finish of a full queue", jobs, start);
    let start = Instant::now();
    tokio::join!(fill(&handle, jobs), empty(&handle, jobs));
    rate("submit, claim, phase and finish together", jobs, start);
}

fn rate(what: &str, jobs: usize, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{what}: {:.0} jobs/s ({jobs} in {seconds:.2} s)",
        f64::from(u32::try_from(jobs).expect("few")) / seconds
    );
}

fn fsyncs(folder: &Path) -> f64 {
    let mut file = OpenOptions::new().create(true).append(true).open(folder.join("fsync")).expect("opens");
    let start = Instant::now();
    for _ in 0..200 {
        file.write_all(&[0; 4096]).and_then(|()| file.sync_data()).expect("written");
    }
    200.0 / start.elapsed().as_secs_f64()
}

async fn fill(handle: &Jobs, jobs: usize) {
    let tasks = (0..SUBMITTERS).map(|_| {
        let handle = handle.clone();
        tasks::spawn("submitter", async move {
            let new = || NewJob {
                request_id: None,
                project: "default".to_owned(),
                spec: JobSpec::for_image("registry.example/rsl/trainer:1.4"),
                retry_of: None,
                own: Vec::new(),
                submitter: None,
            };
            for _ in 0..jobs / SUBMITTERS / BATCH {
                let answers = handle.submit((0..BATCH).map(|_| new()).collect()).await.expect("stored");
                assert!(answers.iter().all(Result::is_ok));
            }
        })
    });
    futures::future::join_all(tasks).await;
}

async fn empty(handle: &Jobs, jobs: usize) {
    let left = Arc::new(AtomicUsize::new(jobs / SUBMITTERS / BATCH * SUBMITTERS * BATCH));
    let tasks = (0..AGENTS).map(|_| tasks::spawn("agent", agent(handle.clone(), Arc::clone(&left))));
    futures::future::join_all(tasks).await;
}

async fn agent(handle: Jobs, left: Arc<AtomicUsize>) {
    let agent = AgentId::new();
    while left.load(Ordering::Relaxed) > 0 {
        let claim = ClaimCommand { claim: ClaimId::new(), agent, offer: offer(), hints: BTreeMap::new() };
        let grants = handle.claim(claim).await.expect("answered").grants;
        let held = grants.iter().map(|grant| HeldAttempt {
            attempt: grant.attempt,
            phase: JobState::Running,
            started_at: None,
            exited_at: None,
            digest: None,
            usage: Usage::default(),
        });
        handle.heartbeat(agent, held.collect()).await.expect("stored");
        let reports = grants.iter().map(|grant| FinishReport {
            attempt: grant.attempt,
            outcome: Outcome::Succeeded,
            detail: String::new(),
            log_end: 4096,
            manifest_pages: 0,
            artifact_count: 0,
            artifact_bytes: 0,
            usage: Usage::default(),
            started_at: None,
            exited_at: None,
            notes: Vec::new(),
            digest: None,
        });
        let answers = handle.finish(reports.collect()).await.expect("stored");
        assert!(answers.iter().all(Result::is_ok));
        left.fetch_sub(answers.len(), Ordering::Relaxed);
    }
}

fn offer() -> Offer {
    Offer {
        free: Capacity {
            cpu_millis: SLOTS * 1000,
            memory_bytes: 1024 * GIB,
            scratch_bytes: 10_000 * GIB,
            gpus: 0,
        },
        gpus: Vec::new(),
        slots: SLOTS,
        labels: BTreeMap::new(),
        pool: "default".to_owned(),
        lanes: Lane::of_pool("default").to_vec(),
    }
}
