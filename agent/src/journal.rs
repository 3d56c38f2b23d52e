//! What this agent meant to run, on disk before the engine is asked: one small file per attempt, so that the next
//! process finds its containers. Holds no secrets. Never decides what becomes of them.

use crate::attempt::Cause;
use longshore_common::{
    agent::Grant,
    clock::{Moment, Timestamp, Uptime},
    durable::{self, UNFINISHED},
    ids::{AttemptRef, ClusterId, ShortId},
    job::JobSpec,
};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

const FINISHED: &str = "json";
const STARTED: &str = "start";
const CONTACT: &str = "contact";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "the agent's journal `{path}` cannot be written: {source}; is the disk of its data directory full?"
    )]
    Write { path: PathBuf, source: io::Error },
    #[error("the agent's journal `{path}` cannot be read: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("a task of the agent ended early: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// One per agent.
#[derive(Clone, Debug)]
pub struct Journal {
    /// `None`: nothing outlives the process, so nothing is written.
    dir: Option<PathBuf>,
    /// The contact on disk.
    noted: Arc<Mutex<Option<Uptime>>>,
}

/// When the controller renewed the leases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// Of the machine: its uptime says nothing after another start.
    pub boot_id: String,
    /// Before it was asked to.
    pub at: Uptime,
    /// The same moment by the time of day.
    #[serde(default)]
    pub time: Option<Timestamp>,
}

/// When a process of this agent had contact last, as far as it is noted in this journal's folder.
pub fn noted_at(dir: &Path) -> Option<Moment> {
    let Contact { at, time, .. } = serde_json::from_slice(&fs::read(dir.join(CONTACT)).ok()?).ok()?;
    Some(Moment { at: time?, up: Some(at) })
}

/// An attempt this agent took on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    pub cluster: ClusterId,
    /// Of the machine, when the attempt was taken on: no container outlives it.
    pub boot_id: String,
    pub attempt: AttemptRef,
    pub short_id: ShortId,
    pub project: String,
    pub spec: JobSpec,
    pub gpus: Vec<String>,
    pub lease: Duration,
    /// There are secrets to fetch; they are not here.
    #[serde(default)]
    pub sealed: bool,
    /// When it was asked for; its lease is no older.
    #[serde(default)]
    pub asked: Option<Uptime>,
    /// When its container was started. Its last start of many, and only as long as the machine is up.
    #[serde(default)]
    pub started: Option<Moment>,
    /// Why it was being stopped, before the container could know.
    #[serde(default)]
    pub stopping: Option<Cause>,
    /// Its files could not be stored, and its report may be with the controller: they are kept.
    #[serde(default)]
    pub unstored: bool,
    /// Since when it is over, and its files wait on this node for another upload.
    #[serde(default)]
    pub kept: Option<Timestamp>,
}

impl Intent {
    pub fn of(cluster: ClusterId, boot_id: &str, grant: &Grant) -> Self {
        Self {
            cluster,
            boot_id: boot_id.to_owned(),
            attempt: grant.attempt,
            short_id: grant.short_id.clone(),
            project: grant.project.clone(),
            spec: grant.spec.clone(),
            gpus: grant.gpus.clone(),
            lease: grant.lease,
            sealed: grant.sealed,
            asked: None,
            started: None,
            stopping: None,
            unstored: false,
            kept: None,
        }
    }

    /// The grant it was.
    pub fn grant(&self) -> Grant {
        Grant {
            attempt: self.attempt,
            short_id: self.short_id.clone(),
            project: self.project.clone(),
            lane: self.spec.lane(),
            spec: self.spec.clone(),
            lease: self.lease,
            gpus: self.gpus.clone(),
            cancel_requested: false,
            sealed: self.sealed,
        }
    }
}

impl Journal {
    /// Before the first attempt: what an earlier process did not finish writing names no container and is dropped.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Write { path: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(failed)?;
        for entry in fs::read_dir(dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let startless = || {
                path.extension().is_some_and(|end| end == STARTED) && !path.with_extension(FINISHED).exists()
            };
            if path.extension().is_some_and(|end| end == UNFINISHED) || startless() {
                fs::remove_file(path).map_err(failed)?;
            }
        }
        Ok(Self { dir: Some(dir.to_owned()), noted: Arc::default() })
    }

    /// For a runtime whose containers end with the process.
    pub fn none() -> Self {
        Self { dir: None, noted: Arc::default() }
    }

    /// On disk when it returns.
    pub async fn intend(&self, intent: Intent) -> Result<(), Error> {
        let Some(dir) = self.dir.clone() else { return Ok(()) };
        tokio::task::spawn_blocking(move || write(&dir, &intent)).await?
    }

    /// More is known of an attempt. What cannot be written is told: the next process would not know it.
    pub async fn note(&self, intent: Intent) {
        let attempt = intent.attempt;
        if let Err(error) = self.intend(intent).await {
            tracing::error!(attempt.id = %attempt, %error, "news of an attempt is not in the journal");
        }
    }

    /// Its container was started then. Not worth a sync: it says nothing when the machine was started anew.
    pub async fn note_start(&self, attempt: AttemptRef, started: Moment) {
        let Some(path) = self.dir.as_ref().map(|dir| path(dir, &attempt).with_extension(STARTED)) else {
            return;
        };
        let write = move || fs::write(path, serde_json::to_vec(&started).map_err(io::Error::other)?);
        let written = tokio::task::spawn_blocking(write).await;
        if let Ok(Err(error)) = written {
            tracing::debug!(%error, "the start of a container is not in the journal");
        }
    }

    /// The attempt is over. Whether its files stay for another upload.
    pub async fn close(&self, intent: Intent) -> bool {
        if !intent.unstored {
            self.forget(&intent.attempt);
            return false;
        }
        tracing::warn!(job.id = %intent.short_id, "files of /out could not be stored and are kept on this node");
        self.note(Intent { kept: Some(Timestamp::now()), ..intent }).await;
        true
    }

    /// Whether the next process will find anything.
    pub const fn is_kept(&self) -> bool {
        self.dir.is_some()
    }

    /// The controller renewed the leases. Written when the note is older than `step` by now, and not worth a sync: one
    /// that is too old only makes leases end earlier.
    pub async fn note_contact(&self, contact: Contact, step: Duration) {
        let Some(path) = self.dir.as_ref().map(|dir| dir.join(CONTACT)) else { return };
        {
            let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
            if noted.is_some_and(|noted| contact.at.since(noted) < step) {
                return;
            }
            *noted = Some(contact.at);
        }
        let write = move || {
            let text = serde_json::to_vec(&contact).map_err(io::Error::other)?;
            durable::replace_for_now(&path, &text)
        };
        let written = tokio::task::spawn_blocking(write).await;
        if let Ok(Err(error)) = written {
            tracing::debug!(%error, "the time of the last renewal is not in the journal");
        }
    }

    /// When the controller renewed the leases last, or a little earlier.
    pub fn last_contact(&self) -> Option<Contact> {
        let text = fs::read(self.dir.as_ref()?.join(CONTACT)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// The attempt is over and nothing of it is left.
    pub fn forget(&self, attempt: &AttemptRef) {
        let Some(dir) = &self.dir else { return };
        let path = path(dir, attempt);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %path.display(), "a finished attempt stays in the journal");
        }
        // Many have none, and one that stays goes with the next process.
        drop(fs::remove_file(path.with_extension(STARTED)));
    }

    /// Everything that is not forgotten. An entry that cannot be read is left where it is, for a person.
    pub fn read(&self) -> Result<Vec<Intent>, Error> {
        let Some(dir) = &self.dir else { return Ok(Vec::new()) };
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Read { path, source }
        };
        let mut intents = Vec::new();
        for entry in fs::read_dir(dir).map_err(failed(dir))? {
            let path = entry.map_err(failed(dir))?.path();
            if path.extension().is_none_or(|end| end != FINISHED) {
                continue;
            }
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                // Forgotten meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(&path)(error)),
            };
            match serde_json::from_slice::<Intent>(&bytes) {
                Ok(mut intent) => {
                    intent.started = intent.started.or_else(|| started(&path));
                    intents.push(intent);
                }
                Err(error) => {
                    tracing::error!(%error, path = %path.display(), "a journal entry cannot be read; a container may be left");
                }
            }
        }
        Ok(intents)
    }
}

fn path(dir: &Path, attempt: &AttemptRef) -> PathBuf {
    dir.join(format!("{attempt}.{}.{FINISHED}", attempt.epoch.0))
}

fn started(entry: &Path) -> Option<Moment> {
    serde_json::from_slice(&fs::read(entry.with_extension(STARTED)).ok()?).ok()
}

fn write(dir: &Path, intent: &Intent) -> Result<(), Error> {
    let path = path(dir, &intent.attempt);
    let written = serde_json::to_vec(intent).map_err(io::Error::other);
    written.and_then(|text| durable::replace(&path, &text)).map_err(|source| Error::Write { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::{
        ids::{Epoch, JobId},
        queue::Lane,
    };
    use std::time::Duration;

    fn grant() -> Grant {
        Grant {
            attempt: AttemptRef { job: JobId::new(), number: 1, epoch: Epoch(1) },
            short_id: ShortId::random(),
            project: "default".into(),
            spec: JobSpec::for_image("busybox:1"),
            lease: Duration::from_secs(600),
            gpus: vec![],
            lane: Lane::new("default", false),
            cancel_requested: false,
            sealed: false,
        }
    }

    fn intent(grant: &Grant) -> Intent {
        Intent::of(ClusterId::from_uuid(uuid::Uuid::nil()), "boot", grant)
    }

    #[tokio::test]
    async fn the_next_process_finds_what_was_not_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        let (ended, running, stored) = (intent(&grant()), intent(&grant()), intent(&grant()));
        for intent in [&ended, &running, &stored] {
            journal.intend(intent.clone()).await.unwrap();
        }
        journal.forget(&ended.attempt);
        let stored = Intent { kept: Some(Timestamp::now()), ..stored };
        let running = Intent { stopping: Some(Cause::RunDeadline(Duration::from_secs(1))), ..running };
        journal.note(stored.clone()).await;
        let began = Moment { at: Timestamp::from_micros(7), up: Some(Uptime::of(Duration::from_secs(3))) };
        journal.note_start(running.attempt, began).await;
        journal.note_start(ended.attempt, began).await;
        journal.note(running.clone()).await;
        let running = Intent { started: Some(began), ..running };
        let contact = |seconds| Contact {
            boot_id: "boot".into(),
            at: Uptime::of(Duration::from_secs(seconds)),
            time: None,
        };
        for seconds in [7, 9, 17, 26] {
            journal.note_contact(contact(seconds), Duration::from_secs(10)).await;
        }
        let journal = Journal::open(dir.path()).unwrap();
        let mut found = journal.read().unwrap();
        found.sort_by_key(|intent| intent.kept);
        assert_eq!(found, [running.clone(), stored]);
        let files = || fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(files(), 4, "two entries, a start and the contact");
        journal.forget(&running.attempt);
        assert_eq!(files(), 2);
        assert_eq!(journal.last_contact(), Some(contact(17)), "not every renewal is worth a write");
    }

    #[test]
    fn an_entry_that_was_not_finished_is_dropped_and_an_odd_one_is_skipped() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("x.new"), b"{\"attempt\":").unwrap();
        fs::write(dir.path().join("y.json"), b"{}").unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        assert_eq!(journal.read().unwrap(), []);
        assert!(!dir.path().join("x.new").exists() && dir.path().join("y.json").exists());
    }
}
