//! Secrets and registry credentials of projects: in memory as they are on disk, encrypted, and open only for the
//! moment in which an agent asks. Must never show a value to anybody else, nor say one in an error.

mod config;
mod error;
mod keys;
mod rotate;

pub use config::{Config, SecretText};
pub use error::Error;
pub use rotate::rotate;

use crate::{
    jobs::{Jobs, OwnSecret},
    store::{DataKeyRow, SecretKind, SecretRow},
};
use keys::Key;
use longshore_common::{
    clock::Timestamp,
    fields::FieldErrors,
    ids::{AttemptRef, JobId},
    job::{self, JobSpec},
};
use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

/// A key and a certificate are 8 KiB; more is data and belongs into an input.
pub const LARGEST: usize = 16 << 10;

/// What is shown of a secret or of credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub name: String,
    /// Of credentials.
    pub username: String,
    pub created_at: Timestamp,
    pub created_by: String,
    pub updated_at: Timestamp,
}

/// Opened for one attempt.
#[derive(Default)]
pub struct Opened {
    pub values: BTreeMap<String, Zeroizing<Vec<u8>>>,
    /// Host, user and password.
    pub login: Option<(String, String, Zeroizing<Vec<u8>>)>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("names", &self.values.keys()).finish_non_exhaustive()
    }
}

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Secrets {
    jobs: Jobs,
    wrapping: Key,
    state: Arc<RwLock<State>>,
    /// Held while the first data key is made.
    founding: Arc<Mutex<()>>,
}

type Place = (String, SecretKind, String);

#[derive(Debug, Default)]
struct State {
    rows: BTreeMap<Place, Arc<SecretRow>>,
    /// By id; those that the wrapping key opens.
    keys: BTreeMap<i64, Key>,
}

impl Secrets {
    pub async fn start(jobs: &Jobs, config: &Config, data_dir: &Path) -> Result<Self, Error> {
        let wrapping = config.key(data_dir)?;
        let mut state = State::default();
        for DataKeyRow { id, wrapped, .. } in jobs.data_keys().await? {
            match wrapping.unwrap(&wrapped) {
                Ok(key) => drop(state.keys.insert(id, key)),
                Err(error) => tracing::error!(
                    key = id, %error,
                    "secrets that are stored cannot be opened: this controller was started with another key"
                ),
            }
        }
        for row in jobs.secret_rows().await? {
            state.rows.insert(place(&row), Arc::new(row));
        }
        let state = Arc::new(RwLock::new(state));
        Ok(Self { jobs: jobs.clone(), wrapping, state, founding: Arc::default() })
    }

    pub async fn set(&self, project: &str, name: &str, value: &[u8], by: &str) -> Result<Shown, Error> {
        job::check_secret_name("name", name).map_err(|error| Error::Invalid(error.message))?;
        self.put(project, SecretKind::Secret, name, "", value, by).await
    }

    pub async fn set_registry(
        &self,
        project: &str,
        host: &str,
        (username, password): (&str, &[u8]),
        by: &str,
    ) -> Result<Shown, Error> {
        let plain = !host.is_empty()
            && host.len() <= 255
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:[]".contains(&b));
        if !plain {
            let message =
                format!("`{host}` is no registry's host, like `registry.example:5000` or `docker.io`");
            return Err(Error::Invalid(message));
        }
        if username.is_empty() || username.len() > 255 || username.chars().any(char::is_control) {
            return Err(Error::Invalid("a registry wants a user's name".to_owned()));
        }
        self.put(project, SecretKind::Registry, host, username, password, by).await
    }

    async fn put(
        &self,
        project: &str,
        kind: SecretKind,
        name: &str,
        username: &str,
        value: &[u8],
        by: &str,
    ) -> Result<Shown, Error> {
        check_value(value)?;
        let (key_id, key) = self.key().await?;
        let known = self.row(project, kind, name);
        let now = Timestamp::now();
        let row = SecretRow {
            project: project.to_owned(),
            kind,
            name: name.to_owned(),
            username: username.to_owned(),
            sealed: key.seal(&aad(kind.as_str(), project, name), value),
            key_id,
            created_at: known.as_ref().map_or(now, |known| known.created_at),
            created_by: by.to_owned(),
            updated_at: now,
        };
        self.jobs.put_secret(row.clone()).await?;
        let shown = shown(&row);
        self.write().rows.insert(place(&row), Arc::new(row));
        Ok(shown)
    }

    pub async fn remove(&self, project: &str, name: &str) -> Result<(), Error> {
        if self.take(project, SecretKind::Secret, name).await? {
            return Ok(());
        }
        Err(Error::NoSecret { project: project.to_owned(), name: name.to_owned() })
    }

    pub async fn remove_registry(&self, project: &str, host: &str) -> Result<(), Error> {
        if self.take(project, SecretKind::Registry, host).await? {
            return Ok(());
        }
        Err(Error::NoRegistry { project: project.to_owned(), host: host.to_owned() })
    }

    async fn take(&self, project: &str, kind: SecretKind, name: &str) -> Result<bool, Error> {
        let place = (project.to_owned(), kind, name.to_owned());
        self.jobs.remove_secret(place.clone()).await?;
        Ok(self.write().rows.remove(&place).is_some())
    }

    /// A new secret for a trigger's callers, in the place of one that there was.
    pub(crate) async fn set_hook(&self, project: &str, trigger: &str, by: &str) -> Result<String, Error> {
        let text = format!("lsh_{}", hex::encode(rand::random::<[u8; 32]>()));
        self.put(project, SecretKind::Hook, trigger, "", text.as_bytes(), by).await?;
        Ok(text)
    }

    /// What a trigger's callers sign with.
    pub(crate) fn hook(&self, project: &str, trigger: &str) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        self.value(project, SecretKind::Hook, trigger)
    }

    pub(crate) async fn remove_hook(&self, project: &str, trigger: &str) -> Result<(), Error> {
        self.take(project, SecretKind::Hook, trigger).await.map(drop)
    }

    /// By name.
    pub fn list(&self, project: &str, kind: SecretKind) -> Vec<Shown> {
        let state = self.read();
        let mine = state.rows.values().filter(|row| row.project == project && row.kind == kind);
        mine.map(|row| shown(row)).collect()
    }

    /// Encrypts what a job brings along, and marks what it was.
    pub async fn own(
        &self,
        project: &str,
        values: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> Result<Vec<OwnSecret>, Error> {
        let mut values = values.into_iter().peekable();
        if values.peek().is_none() {
            return Ok(Vec::new());
        }
        let (key_id, key) = self.key().await?;
        let mut own = Vec::new();
        for (name, value) in values {
            let value = Zeroizing::new(value);
            job::check_secret_name("secrets", &name).map_err(|error| Error::Invalid(error.message))?;
            check_value(&value)?;
            let sealed = key.seal(&aad(OWN, project, &name), &value);
            own.push(OwnSecret { name, sealed, key_id, mark: key.mark(&value) });
        }
        own.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(own)
    }

    /// Notes those the spec names that are neither the project's nor among the job's `own`.
    pub fn check(&self, project: &str, spec: &JobSpec, own: &[&str], errors: &mut FieldErrors) {
        let variables =
            spec.secret_env.iter().map(|(variable, name)| (format!("env.{variable}.secret"), name));
        let files = spec.secret_files.keys().map(|name| (format!("secrets.{name}"), name));
        let key = spec.kleinkram.iter().filter_map(|said| said.key.as_ref());
        let key = key.map(|name| ("kleinkram.key.secret".to_owned(), name));
        for (path, name) in variables.chain(files).chain(key) {
            if !own.contains(&name.as_str()) && self.row(project, SecretKind::Secret, name).is_none() {
                let hint = format!("`longshore secrets set {name}` makes one");
                errors.push(path, format!("project `{project}` has no secret `{name}`; {hint}"));
            }
        }
    }

    /// Whether an attempt at this job has anything to fetch.
    pub fn seals(&self, project: &str, spec: &JobSpec) -> bool {
        let has_any = !spec.secrets().is_empty() || spec.mints_key();
        has_any || self.row(project, SecretKind::Registry, registry(&spec.image)).is_some()
    }

    /// Everything that an attempt at this job may know.
    pub async fn open(&self, job: JobId, project: &str, spec: &JobSpec) -> Result<Opened, Error> {
        let mut opened = Opened::default();
        let own = if spec.secrets().is_empty() { Vec::new() } else { self.jobs.job_secrets(job).await? };
        for name in spec.secrets() {
            let value = match own.iter().find(|own| own.name == name) {
                Some(own) => self.unseal(own.key_id, &aad(OWN, project, name), &own.sealed)?,
                None => self
                    .value(project, SecretKind::Secret, name)?
                    .ok_or_else(|| Error::NoSecret { project: project.to_owned(), name: name.to_owned() })?,
            };
            opened.values.insert(name.to_owned(), value);
        }
        let host = registry(&spec.image);
        if let Some(row) = self.row(project, SecretKind::Registry, host) {
            let password = self.unseal(row.key_id, &aad(row.kind.as_str(), project, host), &row.sealed)?;
            opened.login = Some((host.to_owned(), row.username.clone(), password));
        }
        Ok(opened)
    }

    /// With the id of the data key.
    pub(crate) async fn seal_run_key(
        &self,
        project: &str,
        attempt: &AttemptRef,
        value: &[u8],
    ) -> Result<(i64, Vec<u8>), Error> {
        let (key_id, key) = self.key().await?;
        Ok((key_id, key.seal(&aad(RUN, project, &run(attempt)), value)))
    }

    pub(crate) fn open_run_key(
        &self,
        project: &str,
        attempt: &AttemptRef,
        key_id: i64,
        sealed: &[u8],
    ) -> Result<Zeroizing<String>, Error> {
        let value = self.unseal(key_id, &aad(RUN, project, &run(attempt)), sealed)?;
        String::from_utf8(value.to_vec()).map(Zeroizing::new).map_err(|_| Error::WrongKey)
    }

    /// A password for `purpose`: always the same until the data key is another. Nothing stored tells it.
    pub(crate) async fn derive(&self, purpose: &[u8]) -> Result<Zeroizing<String>, Error> {
        let (_, key) = self.key().await?;
        Ok(Zeroizing::new(hex::encode(key.derive(purpose))))
    }

    fn value(
        &self,
        project: &str,
        kind: SecretKind,
        name: &str,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        let Some(row) = self.row(project, kind, name) else { return Ok(None) };
        self.unseal(row.key_id, &aad(kind.as_str(), project, name), &row.sealed).map(Some)
    }

    fn unseal(&self, key: i64, place: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let key = self.read().keys.get(&key).cloned().ok_or(Error::WrongKey)?;
        key.open(place, sealed).map_err(|_| Error::WrongKey)
    }

    fn row(&self, project: &str, kind: SecretKind, name: &str) -> Option<Arc<SecretRow>> {
        self.read().rows.get(&(project.to_owned(), kind, name.to_owned())).cloned()
    }

    /// The latest data key. The first value of a cluster makes one: who has no secrets has none to lose.
    async fn key(&self) -> Result<(i64, Key), Error> {
        let latest = |state: &State| state.keys.last_key_value().map(|(id, key)| (*id, key.clone()));
        if let Some(found) = latest(&self.read()) {
            return Ok(found);
        }
        let _one = self.founding.lock().await;
        if let Some(found) = latest(&self.read()) {
            return Ok(found);
        }
        let key = Key::random();
        // Behind those that another wrapping key was for.
        let id = self.jobs.data_keys().await?.last().map_or(1, |last| last.id + 1);
        let row = DataKeyRow { id, wrapped: self.wrapping.wrap(&key), created_at: Timestamp::now() };
        self.jobs.put_data_key(row).await?;
        self.write().keys.insert(id, key.clone());
        Ok((id, key))
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

const OWN: &str = "job";
const RUN: &str = "run";

/// Names an attempt, also after a restored backup.
fn run(attempt: &AttemptRef) -> String {
    format!("{attempt}@{}", attempt.epoch.0)
}

/// What a value is for. No part holds the separator.
fn aad(kind: &str, project: &str, name: &str) -> Vec<u8> {
    [kind, project, name].join("\0").into_bytes()
}

fn place(row: &SecretRow) -> Place {
    (row.project.clone(), row.kind, row.name.clone())
}

fn shown(row: &SecretRow) -> Shown {
    Shown {
        name: row.name.clone(),
        username: row.username.clone(),
        created_at: row.created_at,
        created_by: row.created_by.clone(),
        updated_at: row.updated_at,
    }
}

fn check_value(value: &[u8]) -> Result<(), Error> {
    match value.len() {
        0 => Err(Error::Invalid("the value is empty".to_owned())),
        length if length > LARGEST => {
            let most = LARGEST >> 10;
            Err(Error::Invalid(format!(
                "the value has {length} bytes; {most} KiB at most, the rest is an input"
            )))
        }
        _ => Ok(()),
    }
}

/// Where an image comes from, as people write it.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

#[cfg(test)]
mod tests;
