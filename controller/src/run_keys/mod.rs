//! Run keys: made for one attempt by a minter of the operator's configuration, and taken back when the attempt is over,
//! whatever became of it. The wish is on disk before the minter is asked, so that a key whose answer was lost is taken
//! back by its run's name. Must never show a key to anybody but the agent that holds the attempt.

mod error;
mod minter;
mod take_back;
#[cfg(test)]
mod tests;

pub use error::Error;
pub use minter::Config;

use crate::{
    jobs::{JobView, Jobs},
    secrets::Secrets,
    store::{RunKeyRow, Store},
};
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
use take_back::Tried;
use tokio::sync::{Notify, broadcast};
use zeroize::Zeroizing;

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
    /// Of runs that are over: when it was tried to take their keys back.
    tried: Mutex<HashMap<AttemptRef, Tried>>,
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
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Told {
    /// Names the run for ever: a repeat is about the same one.
    run: String,
    job: String,
    job_id: String,
    attempt: u32,
    project: String,
    /// Whose token submitted the job, by name, and by the id that no other token ever has.
    submitter: String,
    submitter_id: String,
    /// That started it; empty if somebody did.
    trigger: String,
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
            tried: Mutex::default(),
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
        let known = self.row(attempt);
        if let Some(row) = &known
            && let Some((key_id, sealed)) = &row.sealed
        {
            return Ok(self.0.secrets.open_run_key(&row.project, &attempt, *key_id, sealed)?);
        }
        let name = self.minter_of(known.as_deref(), job)?;
        let minter = self.0.minters.get(&name).ok_or_else(|| {
            Error::NoKey(format!(
                "project `{}` names minter `{name}`, which the controller does not have",
                job.project
            ))
        })?;
        let (told, now) = (told(attempt, job), Timestamp::now());
        let row = RunKeyRow {
            attempt,
            project: job.project.clone(),
            minter: name.clone(),
            told: serde_json::to_string(&told).expect("plain data with text keys"),
            sealed: None,
            created_at: known.as_ref().map_or(now, |known| known.created_at),
            unanswered_at: Some(now),
        };
        self.put(row.clone()).await?;
        // An answer to this call says nothing of one before that got none.
        let row = RunKeyRow { unanswered_at: known.and_then(|known| known.unanswered_at), ..row };
        let key = match minter.mint(&told).await {
            Ok(key) => key,
            Err(Failed { what, complaint, silent }) => {
                // It may have made one all the same: the row stays until it is taken back.
                if !silent {
                    self.put(row).await?;
                }
                tracing::warn!(attempt.id = %attempt, minter = name, what, complaint, "no run key");
                return Err(Error::NoKey(format!("minter `{name}` {what}")));
            }
        };
        let sealed = self.0.secrets.seal_run_key(&job.project, &attempt, key.as_bytes()).await?;
        self.put(RunKeyRow { sealed: Some(sealed), ..row }).await?;
        if !self.0.jobs.holds(attempt) {
            self.0.nudge.notify_one();
            return Err(Error::Over);
        }
        Ok(key)
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
        let (rows, tried) = (self.rows(), self.tried());
        let in_use = rows.keys().filter(|attempt| tried.get(attempt).is_none_or(|tried| !tried.done)).count();
        Some(ill.map_or_else(|| Ok(format!("{in_use} in use")), Err))
    }

    /// A run stays with the minter that was asked first: that one has to take back what it made.
    fn minter_of(&self, known: Option<&RunKeyRow>, job: &JobView) -> Result<String, Error> {
        if let Some(known) = known {
            return Ok(known.minter.clone());
        }
        let project = self.0.jobs.project(&job.project);
        let named = project.and_then(|project| project.settings.kleinkram.minter.clone());
        named.ok_or_else(|| Error::NoKey(format!("project `{}` names no minter any more", job.project)))
    }

    async fn put(&self, row: RunKeyRow) -> Result<(), Error> {
        let mut tx = self.0.store.begin().await?;
        tx.put_run_key(&row).await?;
        tx.commit().await?;
        self.rows().insert(row.attempt, Arc::new(row));
        Ok(())
    }

    fn row(&self, attempt: AttemptRef) -> Option<Arc<RunKeyRow>> {
        self.rows().get(&attempt).cloned()
    }

    fn rows(&self) -> MutexGuard<'_, HashMap<AttemptRef, Arc<RunKeyRow>>> {
        self.0.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tried(&self) -> MutexGuard<'_, HashMap<AttemptRef, Tried>> {
        self.0.tried.lock().unwrap_or_else(PoisonError::into_inner)
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
        submitter: job.submitter.as_ref().map(|who| who.name.clone()).unwrap_or_default(),
        submitter_id: job.submitter.as_ref().map(|who| who.token.clone()).unwrap_or_default(),
        trigger: job.spec.trigger.as_ref().map(|origin| origin.name.clone()).unwrap_or_default(),
        project_uuid: said.project_uuid.unwrap_or_default(),
        mission_uuid: said.mission_uuid.unwrap_or_default(),
        api_endpoint: said.api_endpoint.unwrap_or_default(),
        access: job.spec.access,
        valid_seconds: valid.as_secs(),
    }
}
