//! Minters that refuse, hang and come late, over a real store.

use super::*;
use crate::{
    identity::{KleinkramSettings, Project, Settings},
    jobs::{self, ClaimCommand, NewJob, Submitter},
    secrets,
    store::{self, Store},
};
use longshore_common::{
    agent::{Capacity, Offer},
    ids::{AgentId, ClaimId, Epoch, JobId},
    job::{JobSpec, Kleinkram, resources::GIB},
    queue::Lane,
};
use std::time::Duration;
use take_back::LATE;

const KEY: &str = "0190a8c2-a-run-key";

struct Bench {
    keys: RunKeys,
    jobs: Jobs,
    secrets: Secrets,
    store: Store,
    config: BTreeMap<String, Config>,
    folder: tempfile::TempDir,
}

impl Bench {
    /// With a minter that runs this script: `$said` is its document, and what it puts into `log` is kept.
    async fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = store::Config { path: folder.path().join("longshore.db"), ..store::Config::default() };
        let store = Store::open(&store).await.expect("opened");
        let jobs = Jobs::start(store.clone(), jobs::Config::default()).await.expect("started");
        let secrets = secrets::Config::default();
        let secrets = Secrets::start(&jobs, &secrets, folder.path()).await.expect("started");
        let kleinkram = KleinkramSettings { minter: Some("lab".into()), ..KleinkramSettings::default() };
        let settings = Settings { kleinkram, ..Settings::default() };
        jobs.put_project(Project { settings, ..Project::new("default") }).await.expect("stored");
        let script = format!("cd {}; read said; {script}", folder.path().display());
        let command = ["/bin/sh", "-c", &script].map(str::to_owned).to_vec();
        let config = Config { command, timeout: Duration::from_secs(1), ..Config::default() };
        let config = BTreeMap::from([("lab".to_owned(), config)]);
        let keys = RunKeys::open(&config, (&jobs, &secrets, &store)).await.expect("opened");
        Self { keys, jobs, secrets, store, config, folder }
    }

    /// As another process finds it.
    async fn open_again(&mut self) {
        let parts = (&self.jobs, &self.secrets, &self.store);
        self.keys = RunKeys::open(&self.config, parts).await.expect("opened");
    }

    fn log(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    /// A job that an agent has.
    async fn held(&self) -> (AttemptRef, JobView) {
        let new = NewJob {
            request_id: None,
            project: "default".into(),
            spec: JobSpec::for_image("a"),
            retry_of: None,
            own: Vec::new(),
            submitter: Some(Submitter { token: "t-1".into(), name: "anna".into() }),
        };
        let job = self.jobs.submit(vec![new]).await.expect("stored").remove(0).expect("taken").job;
        let free = Capacity { cpu_millis: 9_000, memory_bytes: 64 * GIB, scratch_bytes: 640 * GIB, gpus: 0 };
        let offer = Offer {
            free,
            gpus: Vec::new(),
            slots: 1,
            labels: BTreeMap::new(),
            pool: "default".into(),
            lanes: Lane::of_pool("default").to_vec(),
        };
        let claim =
            ClaimCommand { claim: ClaimId::new(), agent: AgentId::new(), offer, hints: BTreeMap::new() };
        let grant = self.jobs.claim(claim).await.expect("answered").grants.remove(0);
        (grant.attempt, job)
    }

    /// Its agent was lost, and nobody has it.
    async fn is_over(&self, attempt: AttemptRef) {
        self.jobs.cancel(vec![attempt.job], "anna", "").await.expect("stored");
        self.jobs.expire_leases(Duration::ZERO).await.expect("stored");
        let agents: Vec<_> = self.jobs.held(attempt.job).map(|(live, _)| live.agent).into_iter().collect();
        for agent in agents {
            self.jobs.remove_agent(agent, "anna").await.expect("stored");
        }
        assert!(!self.jobs.holds(attempt), "it is over");
    }

    /// The key of a run that nobody has any more, on this mission.
    async fn left(&self, mission: &str, unanswered_at: Option<Timestamp>) -> AttemptRef {
        let attempt = AttemptRef { job: JobId::new(), number: 1, epoch: Epoch(1) };
        let told = Told { mission_uuid: mission.into(), ..Told::default() };
        let row = RunKeyRow {
            attempt,
            project: "default".into(),
            minter: "lab".into(),
            told: serde_json::to_string(&told).expect("plain"),
            sealed: None,
            created_at: Timestamp::now(),
            unanswered_at,
        };
        self.keys.put(row).await.expect("stored");
        attempt
    }

    fn has(&self, attempt: AttemptRef) -> bool {
        self.keys.row(attempt).is_some()
    }
}

fn long_ago() -> Option<Timestamp> {
    Some(Timestamp::from_micros(
        Timestamp::now().as_micros() - i64::try_from(LATE.as_micros()).expect("short"),
    ))
}

#[tokio::test]
async fn keys_that_cannot_be_taken_back_do_not_keep_the_others_of_their_minter() {
    // Refused: the rest is asked about all the same.
    let bench = Bench::new("case $said in *bad*) exit 1;; esac").await;
    for _ in 0..30 {
        bench.left("bad", None).await;
    }
    let good = bench.left("good", None).await;
    bench.keys.sweep().await.expect_err("most of them fail");
    assert!(!bench.has(good));
    // Without an answer: a look is cut short, and the next one begins with those that it did not come to.
    let bench = Bench::new("case $said in *bad*) kill -9 $$;; esac").await;
    for _ in 0..30 {
        bench.left("bad", None).await;
    }
    let good = bench.left("good", None).await;
    for _ in 0..4 {
        bench.keys.sweep().await.expect_err("most of them fail");
    }
    assert!(!bench.has(good));
    assert_eq!(bench.keys.rows().len(), 30, "what failed is tried on");
}

#[tokio::test]
async fn a_key_that_is_made_after_its_caller_went_away_is_taken_back_too() {
    let slow = "case $said in *mint*) exec sleep 9;; *) echo revoke >>log;; esac";
    let mut bench = Bench::new(slow).await;
    let (attempt, job) = bench.held().await;
    let none = bench.keys.key(attempt, &job).await.expect_err("it does not answer");
    assert!(none.to_string().contains("did not answer within 1 s"), "{none}");
    bench.is_over(attempt).await;
    let next = bench.keys.sweep().await.expect("taken back").expect("there may be more");
    assert!(next > Timestamp::now() && bench.has(attempt));
    bench.keys.sweep().await.expect("nothing to do yet");
    assert_eq!(bench.log(), ["revoke"]);
    // Another process does not know that it was, and asks again.
    bench.open_again().await;
    bench.keys.sweep().await.expect("taken back");
    assert_eq!(bench.log().len(), 2);
    let row = bench.keys.row(attempt).expect("it is watched");
    bench.keys.put(RunKeyRow { unanswered_at: long_ago(), ..(*row).clone() }).await.expect("stored");
    assert_eq!(bench.keys.sweep().await.expect("taken back"), None);
    assert_eq!((bench.log().len(), bench.has(attempt)), (3, false));
    bench.open_again().await;
    assert!(!bench.has(attempt));
}

#[tokio::test]
async fn a_minter_that_refused_is_asked_once_to_take_back_and_one_that_answered_late_is_watched() {
    let refuses = "case $said in *mint*) exit 3;; *) echo revoke >>log;; esac";
    let bench = Bench::new(refuses).await;
    let (attempt, job) = bench.held().await;
    bench.keys.key(attempt, &job).await.expect_err("it refuses");
    bench.is_over(attempt).await;
    bench.keys.sweep().await.expect("taken back");
    assert_eq!((bench.log().len(), bench.has(attempt)), (1, false), "it has said all that it will");

    let script =
        format!("if [ -e twice ]; then echo '{{\"key\": \"{KEY}\"}}'; else touch twice; exec sleep 9; fi");
    let bench = Bench::new(&script).await;
    let (attempt, job) = bench.held().await;
    bench.keys.key(attempt, &job).await.expect_err("it does not answer");
    assert_eq!(bench.keys.key(attempt, &job).await.expect("a key").as_str(), KEY);
    bench.is_over(attempt).await;
    bench.keys.sweep().await.expect("taken back");
    assert!(bench.has(attempt), "the first call may yet make another one");
}

#[tokio::test]
async fn a_minter_is_told_who_asks_for_which_mission() {
    let bench = Bench::new("case $said in *mint*) echo $said >>log;; esac; exit 1").await;
    let (attempt, mut job) = bench.held().await;
    let mut spec = (*job.spec).clone();
    let mission_uuid = Some("0190a8c2-7b5e-7c3a-9f10-3d6f2a1b4c5d".to_owned());
    spec.kleinkram = Some(Kleinkram { mission_uuid, ..Kleinkram::default() });
    job.spec = Arc::new(spec);
    bench.keys.key(attempt, &job).await.expect_err("it refuses");
    let told: serde_json::Value = serde_json::from_str(&bench.log()[0]).expect("a document");
    assert_eq!(
        (&told["submitter"], &told["submitter_id"], &told["trigger"]),
        (&"anna".into(), &"t-1".into(), &"".into())
    );
    assert_eq!(told["mission_uuid"], "0190a8c2-7b5e-7c3a-9f10-3d6f2a1b4c5d");
}
