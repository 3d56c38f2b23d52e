//! Triggers over a real store, with a clock that the tests turn.

mod apply;
mod clocks;
mod completions;
mod history;
mod hooks;
mod objects;
mod overlaps;
mod rights;

use super::*;
use crate::{
    actions::Asked,
    identity::{self, Project, Token},
    jobs::{self, NewJob},
    secrets,
    store::{self, FiringState, Store},
};
use longshore_common::{
    access::Role,
    action::{Action, ActionInput, ActionRef, Parameter},
    clock::Timestamp,
    ids::JobId,
    job::{Input, JobSpec, JobState, Kleinkram},
    shutdown::Shutdown,
    trigger::{
        Completion, Cron, Kind, MAX_DEPTH, Missed, Objects, Overlap, PER_HOUR, Run, Setting, Signature,
        TriggerSpec, Webhook, When,
    },
};
use ring::hmac;
use serde_json::json;
use std::path::{Path, PathBuf};

struct Bench {
    triggers: Triggers,
    jobs: Jobs,
    identity: Identity,
    owner: Token,
    folder: tempfile::TempDir,
    store: Store,
}

impl Bench {
    async fn new() -> Self {
        Self::open(tempfile::tempdir().expect("a folder")).await
    }

    async fn open(folder: tempfile::TempDir) -> Self {
        Self::on(folder, 0, None).await
    }

    /// `floor`: bytes that the disk must have left. `endpoint`: of a source `bucket`, beside the folder `lab`.
    async fn on(folder: tempfile::TempDir, floor: u64, endpoint: Option<&str>) -> Self {
        let path = folder.path().join("longshore.db");
        let store = loop {
            match Store::open(&store::Config { path: path.clone(), ..store::Config::default() }).await {
                Ok(store) => break store,
                // The old writer is about to drop its handle.
                Err(store::Error::Locked { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        };
        let jobs = Jobs::start(store.clone(), jobs::Config::default()).await.expect("jobs");
        let (shutdown, limits) = (Shutdown::new(), identity::Config::default());
        let identity =
            Identity::start(&jobs, folder.path(), &limits, shutdown.clone()).await.expect("identity");
        let secrets =
            Secrets::start(&jobs, &secrets::Config::default(), folder.path()).await.expect("secrets");
        let incoming = folder.path().join("incoming");
        std::fs::create_dir_all(&incoming).expect("a folder");
        drop(rustls::crypto::ring::default_provider().install_default());
        let key = folder.path().join("key");
        std::fs::write(&key, "secret").expect("written");
        let lab = SourceConfig {
            name: "lab".into(),
            projects: Vec::new(),
            endpoint: None,
            bucket: String::new(),
            region: None,
            access_key: String::new(),
            secret_key_file: None,
            directory: Some(incoming),
        };
        let bucket = endpoint.map(|endpoint| SourceConfig {
            name: "bucket".into(),
            endpoint: Some(endpoint.parse().expect("an address")),
            bucket: "b".into(),
            access_key: "key".into(),
            secret_key_file: Some(key),
            directory: None,
            ..lab.clone()
        });
        let sources: Vec<_> = [lab].into_iter().chain(bucket).collect();
        let parts = Parts {
            jobs: jobs.clone(),
            identity: identity.clone(),
            secrets,
            disk: Disk::watch(folder.path(), floor, shutdown),
            sources: Sources::open(&sources, None).expect("a source"),
        };
        let triggers = Triggers::start(parts, Config::default()).await.expect("triggers");
        let owner = match identity.tokens(None).into_iter().find(|token| token.name == "anna") {
            Some(owner) => owner,
            None => identity.create_token("anna", Role::Submitter, None, None, "test").await.expect("made").1,
        };
        Self { triggers, jobs, identity, owner, folder, store }
    }

    /// The process ends and another one takes over.
    async fn reopen(self) -> Self {
        let Self { triggers, jobs, identity, folder, store, .. } = self;
        drop((triggers, jobs, identity));
        store.close().await;
        Self::open(folder).await
    }

    async fn apply(&self, spec: TriggerSpec) -> Applied {
        let mut applied =
            self.triggers.apply("default", vec![spec], &self.owner, false).await.expect("applied");
        applied.pop().expect("one")
    }

    async fn history(&self, name: &str) -> Vec<FiringView> {
        self.triggers.history("default", name, None, 500).await.expect("listed")
    }

    async fn states(&self, name: &str) -> Vec<FiringState> {
        self.history(name).await.iter().map(FiringView::state).collect()
    }

    async fn ends(&self) {
        while self.triggers.look_at_ends(&mut 0).await.expect("looked") {}
        self.triggers.fire_pending().await.expect("fired");
    }

    async fn submit(&self, spec: JobSpec) -> JobId {
        let new = NewJob {
            request_id: None,
            project: "default".into(),
            spec,
            retry_of: None,
            own: vec![],
            submitter: None,
        };
        let mut done = self.jobs.submit(vec![new]).await.expect("answered");
        done.pop().expect("one").expect("taken").job.id
    }

    async fn cancel(&self, job: JobId) {
        self.jobs.cancel(vec![job], "test", "over").await.expect("cancelled");
    }

    async fn job_of(&self, firing: &FiringView) -> crate::jobs::JobView {
        let short = firing.job.as_ref().expect("a job").to_string();
        let id = self.jobs.resolve(&short, Some("default")).await.expect("there");
        self.jobs.get(id).await.expect("there")
    }

    /// What waits for its next try need wait no longer.
    async fn try_now(&self, name: &str) {
        let row = self.triggers.row("default", name).expect("there");
        self.triggers.try_now(row.id).await.expect("set");
        self.triggers.fire_pending().await.expect("fired");
    }

    /// Turns the clock of a trigger back, as if it had been made then.
    async fn since(&self, name: &str, at: Timestamp) {
        let row = self.triggers.row("default", name).expect("there");
        let record =
            store::Record { cursors: vec![(row.id, at, row.cursor_revision)], ..store::Record::default() };
        self.jobs.record_firings(record).await.expect("moved");
        self.triggers.keep(TriggerRow { cursor_at: at, ..(*row).clone() });
    }
}

fn job() -> JobSpec {
    let mut spec = JobSpec::for_image("busybox:1");
    spec.env.insert("FILE".into(), "none".into());
    spec
}

fn trigger(name: &str, when: When) -> TriggerSpec {
    TriggerSpec::new(name, when, Run::Job(Box::new(job())))
}

fn cron(schedule: &str, zone: &str, missed: Missed) -> When {
    When::Cron(Cron { schedule: schedule.into(), time_zone: zone.into(), missed, jitter: Duration::ZERO })
}

fn hook(per_minute: u32) -> When {
    When::Webhook(Webhook { signature: Signature::Longshore, per_minute })
}

fn ends_of(name: &str, status: &[&str]) -> When {
    When::Completion(Completion {
        action: None,
        job: Some(name.into()),
        labels: [].into(),
        status: status.iter().map(|word| (*word).to_owned()).collect(),
        itself: false,
        input: None,
    })
}

fn objects_of(source: &str) -> When {
    When::Objects(Objects {
        source: source.into(),
        prefix: String::new(),
        matching: vec![],
        changed: false,
        existing: false,
        input: None,
        per_hour: PER_HOUR,
    })
}

/// 2026-01-01T00:00:00Z
const NEW_YEAR: i64 = 1_767_225_600_000_000;
const HOUR: Duration = Duration::from_secs(3600);
