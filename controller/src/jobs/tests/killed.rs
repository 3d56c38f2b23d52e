//! A controller process killed at every statement of whole lives of jobs. A child process lives through them and aborts
//! at the n-th statement; this one takes over its database and finds nothing half done.

use super::*;
use crate::lifecycle::{Event, Loss};
use crate::store::crash;
use longshore_common::artifact::{Artifact, ManifestEntry};
use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

const FOLDER: &str = "LONGSHORE_TEST_KILLED_IN";
const STATEMENT: &str = "LONGSHORE_TEST_KILLED_AT";
/// More than there are.
const NEVER: u64 = 1 << 40;
const REQUESTS: [&str; 3] = ["ends well", "is cancelled", "is lost"];

/// What the process had been told was done, one word a line: it outlives a kill.
struct Told(PathBuf);

impl Told {
    fn say(&self, word: &str) {
        let mut file = fs::File::options().append(true).create(true).open(&self.0).expect("a file");
        writeln!(file, "{word}").expect("written");
    }

    fn has(&self, word: &str) -> bool {
        fs::read_to_string(&self.0).unwrap_or_default().lines().any(|line| line == word)
    }
}

/// Who acts in the story: the same after the kill.
fn actors(folder: &Path) -> (AgentId, ClaimId, Told) {
    let path = folder.join("actors");
    if !path.exists() {
        fs::write(&path, format!("{}\n{}", AgentId::new(), ClaimId::new())).expect("written");
    }
    let text = fs::read_to_string(path).expect("read");
    let (agent, claim) = text.split_once('\n').expect("two of them");
    (agent.parse().expect("an id"), claim.parse().expect("an id"), Told(folder.join("told")))
}

fn lived() -> JobSpec {
    let mut spec = spec();
    spec.retry.backoff = Duration::ZERO;
    spec
}

/// Every step may be repeated by whoever got no answer, and is here. Answers the jobs in the order of `REQUESTS`.
async fn live(bench: &Bench, (agent, claim, told): &(AgentId, ClaimId, Told)) -> Vec<JobId> {
    let mut jobs = Vec::new();
    for request in REQUESTS {
        jobs.push(bench.submit_as(Some(request), lived()).await.expect("taken").job.id);
        told.say(&format!("submitted {request}"));
    }
    let command = ClaimCommand { claim: *claim, agent: *agent, offer: offer(16, 3), hints: BTreeMap::new() };
    let mut grants = bench.jobs.claim(command).await.expect("answered").grants;
    grants.sort_by_key(|grant| jobs.iter().position(|job| *job == grant.attempt.job));
    told.say("granted");
    let attempt =
        |job: JobId| grants.iter().find(|grant| grant.attempt.job == job).map(|grant| grant.attempt);
    for phase in [JobState::Preparing, JobState::Running] {
        let listed = jobs.iter().filter_map(|job| attempt(*job)).map(|attempt| held(attempt, phase));
        bench.jobs.heartbeat(*agent, listed.collect()).await.expect("answered");
    }
    if let Some(well) = attempt(jobs[0]) {
        bench.jobs.open_uploads(well, 0..2).await.expect("noted");
        for page in 0..2 {
            drop(bench.jobs.put_manifest(well, page, vec![file(page)]).await.expect("kept"));
        }
        let mut end = report(well, Outcome::Succeeded);
        (end.manifest_pages, end.artifact_count, end.artifact_bytes) = (2, 2, 2);
        bench.finish(end).await.expect("taken");
        told.say("finished");
    }
    bench.jobs.cancel(vec![jobs[1]], "anna", "").await.expect("answered");
    told.say("cancel asked");
    if let Some(cancelled) = attempt(jobs[1]) {
        bench.finish(report(cancelled, Outcome::Cancelled)).await.expect("taken");
        told.say("cancelled");
    }
    if let Some(lost) = attempt(jobs[2]) {
        let loss = Loss { attempt: lost, detail: String::new(), died: true, jitter: 0.0 };
        let died = Event::AgentLost(loss);
        bench.jobs.events(vec![(jobs[2], died)]).await.expect("answered");
        told.say("lost");
    }
    jobs
}

fn file(page: u32) -> ManifestEntry {
    let artifact =
        Artifact { path: vec![b'a' + page as u8], size: 1, sha256: [7; 32], mode: 0o644, modified_at: None };
    ManifestEntry { ordinal: page.into(), artifact }
}

#[tokio::test]
#[ignore = "the process that is killed; run by the test below"]
async fn the_process_that_is_killed() {
    let folder = PathBuf::from(std::env::var(FOLDER).expect("run by the test below"));
    let statement = std::env::var(STATEMENT).expect("said").parse().expect("a number");
    let bench = Bench { jobs: Bench::open(&folder, Config::default()).await, folder: kept(&folder) };
    crash::after(statement);
    live(&bench, &actors(&folder)).await;
    fs::write(folder.join("statements"), crash::passed().to_string()).expect("written");
}

/// A folder that is another's to remove.
fn kept(folder: &Path) -> tempfile::TempDir {
    tempfile::Builder::new().prefix("unused").disable_cleanup(true).tempdir_in(folder).expect("a folder")
}

fn run_killed(folder: &Path, statement: u64) {
    let mut child = Command::new(std::env::current_exe().expect("this test"));
    child.args(["--exact", "jobs::tests::killed::the_process_that_is_killed", "--ignored", "--nocapture"]);
    let output = child.env(FOLDER, folder).env(STATEMENT, statement.to_string()).output().expect("run");
    let killed = std::os::unix::process::ExitStatusExt::signal(&output.status).is_some();
    assert_eq!(killed, statement != NEVER, "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_controller_killed_at_any_statement_leaves_nothing_half_done() {
    let whole = tempfile::tempdir().expect("a folder");
    run_killed(whole.path(), NEVER);
    let statements = fs::read_to_string(whole.path().join("statements")).expect("counted");
    let statements: u64 = statements.parse().expect("a number");
    assert!(statements > 50, "{statements} statements are no life");
    for statement in 1..=statements {
        let folder = tempfile::tempdir().expect("a folder");
        run_killed(folder.path(), statement);
        let jobs = Bench::open(folder.path(), Config::default()).await;
        let bench = Bench { jobs, folder };
        let actors = actors(bench.folder.path());
        whole_rows(&bench, &actors.2, statement).await;
        let jobs = live(&bench, &actors).await;
        whole_rows(&bench, &actors.2, statement).await;
        ended_once(&bench, &jobs, statement).await;
    }
}

/// Rows belong together, and what was told is there.
async fn whole_rows(bench: &Bench, told: &Told, statement: u64) {
    let all = bench.jobs.list(&JobFilter::default(), 100, "").await.expect("a page").items;
    let submitted = REQUESTS.iter().filter(|request| told.has(&format!("submitted {request}"))).count();
    assert!((submitted..=submitted + 1).contains(&all.len()), "killed at {statement}: {}", all.len());
    for job in all {
        let attempts = bench.jobs.attempts(job.id).await.expect("there");
        let why = format!("killed at {statement}: {job:?} {attempts:?}");
        assert_eq!(attempts.len(), job.attempts as usize, "{why}");
        assert!(attempts.iter().rev().skip(1).all(|attempt| attempt.ending.is_some()), "{why}");
        let open = attempts.last().is_some_and(|attempt| attempt.ending.is_none());
        assert_eq!(open, job.state.is_held(), "one live attempt or none: {why}");
        assert_eq!(job.state.is_terminal(), job.ending.is_some() && job.finished_at.is_some(), "{why}");
        assert!(!told.has("granted") || job.attempts > 0, "{why}");
        for attempt in attempts.iter().filter(|attempt| attempt.committed) {
            let files = bench.jobs.artifacts(attempt, b"", 10, "").await.expect("a page").items.len();
            assert_eq!(files as u64, attempt.artifact_count, "{why}");
        }
        let live = attempts.last().filter(|_| open).map(|attempt| attempt.attempt);
        assert!(live.is_none_or(|attempt| bench.jobs.check_attempt(attempt).is_ok()), "{why}");
    }
}

async fn ended_once(bench: &Bench, jobs: &[JobId], statement: u64) {
    let outcomes = bench.jobs.get_many(jobs).await.expect("there");
    let outcomes: Vec<_> =
        outcomes.into_iter().map(|job| (job.ending.map(|end| end.outcome), job.attempts)).collect();
    let expected = [(Some(Outcome::Succeeded), 1), (Some(Outcome::Cancelled), 1), (None, 1)];
    assert_eq!(outcomes, expected, "killed at {statement}");
    let lost = bench.jobs.get(jobs[2]).await.expect("there");
    assert_eq!(lost.state, JobState::Queued, "killed at {statement}: it can be claimed again");
    assert_eq!(bench.jobs.queued(10).await.expect("counted").into_values().sum::<u32>(), 1);
}
