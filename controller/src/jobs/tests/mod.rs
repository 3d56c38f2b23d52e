//! The contract of the commands over a real store in a folder of its own. Another engine runs the same suite by
//! giving another [`Bench::open`].

mod after;
mod agents;
mod agrees;
mod attempts;
mod batches;
mod claims;
mod deaths;
mod fair;
mod fleet;
#[path = "../../../../tests/src/trace.rs"]
#[expect(unreachable_pub, reason = "the harness of the stories owns it")]
mod judged;
mod killed;
mod leases;
mod lists;
mod locality;
mod manifests;
mod quotas;
mod seats;
mod sources;
mod submits;
mod trace;

use super::*;
use crate::store::{self, Store};
use longshore_common::{
    agent::{AgentIdentity, Capacity, FinishReport, Gpu, Grant, HeldAttempt, Inventory, Offer, Usage},
    ids::{AgentId, AttemptRef, ClaimId, JobId, SessionId},
    job::{JobSpec, JobState, Outcome, resources::GIB},
    queue::Lane,
};
use std::collections::BTreeMap;

struct Bench {
    jobs: Jobs,
    folder: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let jobs = Self::open(folder.path(), Config::default()).await;
        Self { jobs, folder }
    }

    async fn open(folder: &std::path::Path, config: Config) -> Jobs {
        let store = store::Config { path: folder.join("controller.db"), ..store::Config::default() };
        Jobs::start(Store::open(&store).await.expect("opens"), config).await.expect("starts")
    }

    /// The process ends and another one takes over.
    async fn reopen(self, config: Config) -> Self {
        let Self { jobs, folder } = self;
        drop(jobs);
        let store = store::Config { path: folder.path().join("controller.db"), ..store::Config::default() };
        let store = loop {
            match Store::open(&store).await {
                Ok(store) => break store,
                // The old writer is about to drop its handle.
                Err(store::Error::Locked { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        };
        Self { jobs: Jobs::start(store, config).await.expect("starts"), folder }
    }

    async fn submit(&self, spec: JobSpec) -> JobView {
        self.submit_as(None, spec).await.expect("taken").job
    }

    async fn submit_as(&self, request: Option<&str>, spec: JobSpec) -> Result<Submitted, SubmitError> {
        let new = NewJob {
            request_id: request.map(str::to_owned),
            project: "default".into(),
            spec,
            retry_of: None,
            own: Vec::new(),
            submitter: None,
        };
        self.jobs.submit(vec![new]).await.expect("stored").pop().expect("one answer")
    }

    async fn claim(&self, agent: AgentId, offer: Offer) -> Claimed {
        let claim = ClaimCommand { claim: ClaimId::new(), agent, offer, hints: BTreeMap::new() };
        self.jobs.claim(claim).await.expect("answered")
    }

    /// Submits one job and has an agent claim it.
    async fn held(&self, spec: JobSpec) -> (AgentId, Grant) {
        let agent = AgentId::new();
        self.submit(spec).await;
        let mut claimed = self.claim(agent, offer(16, 1)).await;
        (agent, claimed.grants.pop().expect("a grant"))
    }

    async fn finish(&self, report: FinishReport) -> Result<(), crate::lifecycle::Refusal> {
        self.jobs.finish(vec![report]).await.expect("stored").pop().expect("one answer")
    }

    async fn state(&self, grant: &Grant) -> JobState {
        self.jobs.get(grant.attempt.job).await.expect("there").state
    }
}

fn spec() -> JobSpec {
    JobSpec::for_image("registry.example/rsl/trainer:1.4")
}

fn offer(cores: u32, slots: u32) -> Offer {
    Offer {
        free: Capacity {
            cpu_millis: cores * 1000,
            memory_bytes: 256 * GIB,
            scratch_bytes: 10_000 * GIB,
            gpus: 0,
        },
        gpus: Vec::new(),
        slots,
        labels: BTreeMap::new(),
        pool: "default".into(),
        lanes: Lane::of_pool("default").to_vec(),
    }
}

fn report(attempt: AttemptRef, outcome: Outcome) -> FinishReport {
    FinishReport {
        attempt,
        outcome,
        detail: String::new(),
        log_end: 0,
        manifest_pages: 0,
        artifact_count: 0,
        artifact_bytes: 0,
        usage: Usage::default(),
        started_at: None,
        exited_at: None,
        notes: Vec::new(),
        digest: None,
    }
}

fn held(attempt: AttemptRef, phase: JobState) -> HeldAttempt {
    HeldAttempt { attempt, phase, started_at: None, exited_at: None, usage: Usage::default(), digest: None }
}

fn identity(name: &str) -> AgentIdentity {
    AgentIdentity {
        id: AgentId::new(),
        name: name.into(),
        version: "0.1.0".into(),
        boot_id: "boot".into(),
        session: SessionId::new(),
        labels: BTreeMap::new(),
        pool: "default".into(),
    }
}

fn inventory(cores: u32, gpus: Vec<Gpu>) -> Inventory {
    Inventory { arch: "amd64".into(), allocatable: offer(cores, 1).free, gpus, ..Inventory::default() }
}

#[tokio::test]
async fn a_job_goes_through_every_hop() {
    let bench = Bench::new().await;
    let (agent, grant) = bench.held(spec()).await;
    assert_eq!((grant.attempt.number, bench.state(&grant).await), (1, JobState::Claimed));
    for phase in [JobState::Preparing, JobState::Running, JobState::Collecting] {
        let answer = bench.jobs.heartbeat(agent, vec![held(grant.attempt, phase)]).await.expect("stored");
        assert!(answer.fenced.is_empty() && answer.stops.is_empty());
        assert_eq!(bench.state(&grant).await, phase);
    }
    assert!(bench.jobs.check_attempt(grant.attempt).is_ok());
    bench.finish(report(grant.attempt, Outcome::Succeeded)).await.expect("taken");
    let job = bench.jobs.get(grant.attempt.job).await.expect("there");
    assert_eq!((job.state, job.attempts), (JobState::Succeeded, 1));
    assert!(job.finished_at.is_some() && job.expires_at.is_some());
    assert!(bench.jobs.check_attempt(grant.attempt).is_err());
}
