//! The attempt's secrets: fetched before anything else, again by whoever takes it over, and masked in its log from
//! then on. What cannot be fetched is not gone on without.

use super::{Attempt, Cause, Cut};
use crate::{
    contracts,
    link::{self, Controller},
    logs::Masker,
    runtime::SecretMounts,
    secrets::{Owner, Secrets, TriggerFile, Value},
};
use longshore_common::{
    agent::Grant,
    job::Outcome,
    retry::Backoff,
    trigger::{TRIGGER_FILE, TRIGGER_FILE_NAME},
};
use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

impl Attempt {
    /// What is known from now on is not seen in its log.
    pub(super) async fn learn(&mut self, secrets: Secrets) {
        let secrets = Arc::new(secrets);
        let known = Arc::clone(&secrets);
        let made = tokio::task::spawn_blocking(move || Masker::new(known.to_mask()));
        match made.await {
            Ok(masker) => self.log.mask(masker),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
        self.secrets = secrets;
    }

    /// Variables and files for the container.
    pub(super) async fn secret_mounts(&self, dir: &Path, user: &str) -> Result<SecretMounts, Cut> {
        let spec = &self.grant.spec;
        let wrong = |detail| Cut::Failed(Outcome::InputFailed, detail);
        let mut env = self.secrets.env(spec).map_err(wrong)?;
        env.extend(contracts::secret_env(spec, &self.secrets).map_err(wrong)?);
        let told = match &self.secrets.trigger {
            Some(told) => Some(tell(told.clone(), dir, &mut env).await?),
            None => None,
        };
        let files = self.secrets.files(spec).map_err(wrong)?;
        if files.is_empty() {
            return Ok(SecretMounts { env, folder: None, told });
        }
        let owner = Owner::of(spec.user.as_deref().unwrap_or(user));
        let (vault, name) = (self.tools().vault.clone(), folder_name(dir));
        let written = tokio::task::spawn_blocking(move || vault.write(&name, &files, owner)).await;
        let folder = written.unwrap_or_else(|panic| Err(std::io::Error::other(panic)));
        let folder = folder.map_err(|error| {
            Cut::Failed(Outcome::RuntimeError, format!("the folder of secrets cannot be made: {error}"))
        })?;
        Ok(SecretMounts { env, folder: Some(folder), told })
    }
}

/// Writes down what started the job, and names it in the environment. The folder it is in.
async fn tell(told: TriggerFile, dir: &Path, env: &mut BTreeMap<String, Value>) -> Result<PathBuf, Cut> {
    let TriggerFile { name, kind, content } = told;
    for (variable, value) in [
        ("LONGSHORE_TRIGGER", name),
        ("LONGSHORE_TRIGGER_KIND", kind),
        ("LONGSHORE_TRIGGER_FILE", TRIGGER_FILE.to_owned()),
    ] {
        env.insert(variable.to_owned(), Value::new(value));
    }
    let folder = dir.join("told");
    let written = {
        let folder = folder.clone();
        tokio::task::spawn_blocking(move || write(&folder, &content)).await
    };
    let written = written.unwrap_or_else(|panic| Err(io::Error::other(panic)));
    written.map_err(|error| {
        Cut::Failed(Outcome::RuntimeError, format!("{TRIGGER_FILE} cannot be written: {error}"))
    })?;
    Ok(folder)
}

/// For any user of the image.
fn write(folder: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(home) = folder.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(home)?;
    }
    fs::DirBuilder::new().recursive(true).create(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    let path = folder.join(TRIGGER_FILE_NAME);
    fs::write(&path, content)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444))
}

/// Of the attempt whose folder this is.
pub(super) fn folder_name(dir: &Path) -> String {
    dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Asks until there is an answer. Without secrets nobody is asked.
pub(super) async fn fetch(controller: &dyn Controller, grant: &Grant) -> Result<Secrets, Cut> {
    if !grant.sealed {
        return Ok(Secrets::default());
    }
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
    loop {
        match controller.fetch_secrets(grant.attempt).await {
            Ok(Secrets { no_run_key: Some(why), .. }) => {
                return Err(Cut::Failed(Outcome::RunKeyFailed, why));
            }
            Ok(secrets) => return Ok(secrets),
            Err(link::Error::Fenced(_)) => return Err(Cause::Revoked.into()),
            Err(link::Error::Refused(detail)) => {
                return Err(Cut::Failed(Outcome::InputFailed, format!("secrets: {detail}")));
            }
            Err(link::Error::Unreachable(_) | link::Error::Denied(_)) => backoff.wait().await,
        }
    }
}
