//! Run keys: made for one attempt by a minter of the operator's configuration, and taken back when the attempt is over,
//! whatever became of it. The wish is on disk before the minter is asked, so that a key whose answer was lost is taken
//! back by its run's name. Must never show a key to anybody but the agent that holds the attempt.

mod error;
mod minter;

pub use error::Error;
pub use minter::Config;

use crate::{
    jobs::{JobView, Jobs},
    secrets::Secrets,
    store::{RunKeyRow, Store},
};
use futures::{StreamExt as _, stream};
use longshore_common::{
    clock::Timestamp,
    ids::AttemptRef,
    job::{Access, JobState},
    tasks,
};
use minter::{Failed, Minter};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{Notify, broadcast};
use zeroize::Zeroizing;

/// Keys taken back at one time.
const AT_ONCE: usize = 8;

/// Cheap to clone.
#[derive(Clone)]
pub struct RunKeys(Arc<Inner>);

struct Inner {
    minters: BTreeMap<String, Minter>,
    jobs: Jobs,
    secrets: Secrets,
    store: Store,
    /// As in the database.
    rows: Mutex<HashMap<AttemptRef, Arc<RunKeyRow>>>,
    /// One call about one run at a time.
    turns: Mutex<HashMap<AttemptRef, Arc<tokio::sync::Mutex<()>>>>,
    /// Minters whose last complaint was told.
    complained: Mutex<HashSet<String>>,
    /// Why the last look left some behind.
    ill: Mutex<Option<String>>,
    nudge: Notify,
}

impl fmt::Debug for RunKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunKeys").field("minters", &self.0.minters.keys()).finish_non_exhaustive()
    }
}

/// What a minter is told of a run. The same for `mint` and `revoke`.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    /// Names the run for ever: a repeat is about the same one.
    run: String,
    job: String,
    job_id: String,
    attempt: u32,
    project: String,
    project_uuid: String,
    mission_uuid: String,
    api_endpoint: String,
    access: Access,
    /// For how long a key is needed at most.
    valid_seconds: u64,
}

impl RunKeys {
    pub(crate) async fn open(
        config: &BTreeMap<String, Config>,
        (jobs, secrets, store): (&Jobs, &Secrets, &Store),
    ) -> Result<Self, Error> {
        let mut minters = BTreeMap::new();
        for (name, config) in config {
            let minter = Minter::new(config).map_err(|problem| Error::Setting(name.clone(), problem))?;
            minters.insert(name.clone(), minter);
        }
        let rows = store.run_keys().await?.into_iter().map(|row| (row.attempt, Arc::new(row)));
        Ok(Self(Arc::new(Inner {
            minters,
            jobs: jobs.clone(),
            secrets: secrets.clone(),
            store: store.clone(),
            rows: Mutex::new(rows.collect()),
            turns: Mutex::default(),
            complained: Mutex::default(),
            ill: Mutex::default(),
            nudge: Notify::new(),
        })))
    }

    /// Whether a project may name this minter; if not, what there is.
    pub fn knows(&self, name: &str) -> Result<(), String> {
        if self.0.minters.contains_key(name) {
            return Ok(());
        }
        let known: Vec<_> = self.0.minters.keys().map(String::as_str).collect();
        let known =
            if known.is_empty() { "has none".to_owned() } else { format!("has {}", known.join(", ")) };
        Err(format!("`{name}` is not a minter: the controller's configuration {known} ([minters.NAME])"))
    }

    /// The key of this attempt: the same one however often it is asked for. Goes on when nobody waits any more.
    pub(crate) async fn key(&self, attempt: AttemptRef, job: &JobView) -> Result<Zeroizing<String>, Error> {
        let (keys, job) = (self.clone(), job.clone());
        let made = tasks::spawn("run-key", async move { keys.get(attempt, &job).await });
        made.await.unwrap_or_else(|panic| Err(Error::NoKey(format!("the run key: {panic}"))))
    }

    async fn get(&self, attempt: AttemptRef, job: &JobView) -> Result<Zeroizing<String>, Error> {
        let turn = self.turn(attempt);
        let _turn = turn.lock().await;
        if !self.0.jobs.holds(attempt) {
            return Err(Error::Over);
        }
        if let Some(row) = self.row(attempt)
            && let Some((key_id, sealed)) = &row.sealed
        {
            return Ok(self.0.secrets.open_run_key(&row.project, &attempt, *key_id, sealed)?);
        }
        let settings = self.0.jobs.project(&job.project).map(|project| project.settings.kleinkram.clone());
        let name = settings.and_then(|settings| settings.minter);
        let none = || Error::NoKey(format!("project `{}` names no minter any more", job.project));
        let name = name.ok_or_else(none)?;
        let minter = self.0.minters.get(&name).ok_or_else(|| {
            Error::NoKey(format!(
                "project `{}` names minter `{name}`, which the controller does not have",
                job.project
            ))
        })?;
        let told = told(attempt, job);
        let row = RunKeyRow {
            attempt,
            project: job.project.clone(),
            minter: name.clone(),
            told: serde_json::to_string(&told).expect("plain data with text keys"),
            sealed: None,
            created_at: Timestamp::now(),
        };
        self.put(row.clone()).await?;
        let key = minter.mint(&told).await.map_err(|Failed { what, complaint }| {
            // It may have made one all the same: the row stays until it is taken back.
            tracing::warn!(attempt.id = %attempt, minter = name, what, complaint, "no run key");
            Error::NoKey(format!("minter `{name}` {what}"))
        })?;
        let sealed = self.0.secrets.seal_run_key(&job.project, &attempt, key.as_bytes()).await?;
        self.put(RunKeyRow { sealed: Some(sealed), ..row }).await?;
        if !self.0.jobs.holds(attempt) {
            self.0.nudge.notify_one();
            return Err(Error::Over);
        }
        Ok(key)
    }

    /// Takes back what no attempt needs any more. What fails is tried again, for ever.
    pub(crate) async fn sweep(&self) -> Result<(), Error> {
        self.forget_turns();
        let over: Vec<_> =
            self.rows().values().filter(|row| !self.0.jobs.holds(row.attempt)).cloned().collect();
        if over.is_empty() {
            *self.0.ill.lock().unwrap_or_else(PoisonError::into_inner) = None;
            return Ok(());
        }
        let count = over.len();
        // One that fails is left alone until the next look, with all that is its.
        let failing = Mutex::new(HashSet::new());
        let failures: Vec<Error> = stream::iter(over)
            .map(|row| self.take_back(row, &failing))
            .buffer_unordered(AT_ONCE)
            .filter_map(|done| async { done.err() })
            .collect()
            .await;
        let first = failures.into_iter().next();
        let told = first.as_ref().map(|error| format!("{count} run keys are to be taken back: {error}"));
        *self.0.ill.lock().unwrap_or_else(PoisonError::into_inner) = told;
        first.map_or(Ok(()), Err)
    }

    async fn take_back(&self, row: Arc<RunKeyRow>, failing: &Mutex<HashSet<String>>) -> Result<(), Error> {
        let attempt = row.attempt;
        if failing.lock().unwrap_or_else(PoisonError::into_inner).contains(&row.minter) {
            return Ok(());
        }
        let turn = self.turn(attempt);
        let _turn = turn.lock().await;
        // It may have got its value meanwhile.
        let Some(row) = self.row(attempt) else { return Ok(()) };
        let done = self.revoke(&row).await;
        if let Err(Error::NoKey(_)) = &done {
            failing.lock().unwrap_or_else(PoisonError::into_inner).insert(row.minter.clone());
        }
        done?;
        let mut tx = self.0.store.begin().await?;
        tx.drop_run_key(attempt).await?;
        tx.commit().await?;
        self.rows().remove(&attempt);
        Ok(())
    }

    async fn revoke(&self, row: &RunKeyRow) -> Result<(), Error> {
        let gone = || Error::NoKey(format!("minter `{}` is not in the configuration any more", row.minter));
        let minter = self.0.minters.get(&row.minter).ok_or_else(gone)?;
        let told: Told = serde_json::from_str(&row.told).map_err(|error| {
            Error::NoKey(format!("what minter `{}` was told does not read: {error}", row.minter))
        })?;
        let key = row
            .sealed
            .as_ref()
            .map(|(key_id, sealed)| self.0.secrets.open_run_key(&row.project, &row.attempt, *key_id, sealed));
        // With another key of the secrets it is taken back by its name alone.
        let key = key.and_then(Result::ok);
        let told = minter.revoke(&told, key.as_ref().map(|key| key.as_str())).await;
        let mut complained = self.0.complained.lock().unwrap_or_else(PoisonError::into_inner);
        let Err(Failed { what, complaint }) = told else {
            complained.remove(&row.minter);
            return Ok(());
        };
        if complained.insert(row.minter.clone()) {
            let complaint =
                key.as_ref().map_or_else(|| complaint.clone(), |key| complaint.replace(key.as_str(), "***"));
            tracing::warn!(minter = row.minter, what, complaint, "run keys are not taken back; trying on");
        }
        Err(Error::NoKey(format!("minter `{}` {what}", row.minter)))
    }

    /// Returns when an attempt may be over. Cancel-safe.
    pub(crate) async fn nudged(&self, changes: &mut broadcast::Receiver<crate::jobs::Changes>) {
        loop {
            let over = tokio::select! {
                () = self.0.nudge.notified() => return,
                changes = changes.recv() => changes,
            };
            match over {
                Ok(changes) => {
                    let held = |state: JobState| state.is_held();
                    if !self.rows().is_empty() && changes.iter().any(|change| !held(change.state)) {
                        return;
                    }
                }
                Err(broadcast::error::RecvError::Lagged(_)) => return,
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }

    /// `None`: there is no minter.
    pub fn health(&self) -> Option<Result<String, String>> {
        if self.0.minters.is_empty() && self.rows().is_empty() {
            return None;
        }
        let ill = self.0.ill.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Some(ill.map_or_else(|| Ok(format!("{} in use", self.rows().len())), Err))
    }

    async fn put(&self, row: RunKeyRow) -> Result<(), Error> {
        let mut tx = self.0.store.begin().await?;
        tx.put_run_key(&row).await?;
        tx.commit().await?;
        self.rows().insert(row.attempt, Arc::new(row));
        Ok(())
    }

    /// Those of runs that are over.
    fn forget_turns(&self) {
        let rows = self.rows();
        let mut turns = self.0.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|attempt, turn| rows.contains_key(attempt) || Arc::strong_count(turn) > 1);
    }

    fn row(&self, attempt: AttemptRef) -> Option<Arc<RunKeyRow>> {
        self.rows().get(&attempt).cloned()
    }

    fn rows(&self) -> MutexGuard<'_, HashMap<AttemptRef, Arc<RunKeyRow>>> {
        self.0.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self, attempt: AttemptRef) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.0.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(attempt).or_default())
    }
}

fn told(attempt: AttemptRef, job: &JobView) -> Told {
    let said = job.spec.kleinkram.clone().unwrap_or_default();
    let deadlines = &job.spec.deadlines;
    let valid = deadlines.prepare + deadlines.run + deadlines.stop_grace + deadlines.upload;
    Told {
        run: format!("{}.{}.{}", attempt.job, attempt.number, attempt.epoch.0),
        job: attempt.job.to_string(),
        job_id: job.short_id.to_string(),
        attempt: attempt.number,
        project: job.project.clone(),
        project_uuid: said.project_uuid.unwrap_or_default(),
        mission_uuid: said.mission_uuid.unwrap_or_default(),
        api_endpoint: said.api_endpoint.unwrap_or_default(),
        access: job.spec.access,
        valid_seconds: valid.as_secs(),
    }
}
