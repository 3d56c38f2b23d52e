//! Folders of this machine that jobs may mount by the operator's word for them. Whoever writes into a share may swap
//! its folders while a job starts, so what a job asked for is opened below the share once, checked, and pinned by a
//! mount of the agent's own: the engine is given that. Never removes a file: pins are unmounted, their empty mount
//! points removed one by one.

use longshore_common::job::{self, ShareInput};
use rustix::{
    fd::{AsRawFd as _, OwnedFd},
    fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2},
    io::Errno,
    mount::{MountFlags, UnmountFlags, mount_bind, mount_remount, unmount},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// One share of `agent.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Share {
    /// What jobs call it.
    pub name: String,
    pub path: PathBuf,
    /// Whether a job may ask to write.
    pub writable: bool,
    /// Whose jobs may mount it; empty: everybody's.
    pub projects: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("shares: {0}")]
    Config(String),
    /// The job cannot have it here.
    #[error("{0}")]
    Refused(String),
}

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shares {
    known: Arc<[Share]>,
    /// A folder per attempt, in it a mount point per input.
    pins: PathBuf,
}

impl Shares {
    /// Those that are there. A share whose folder is missing is told and not offered until the agent starts again.
    pub fn open(config: &[Share], pins: PathBuf) -> Result<Self, Error> {
        let mut names = BTreeSet::new();
        let mut known = Vec::new();
        for share in config {
            check(share)?;
            if !names.insert(&share.name) {
                return Err(Error::Config(format!("`{}` is there twice", share.name)));
            }
            match fs::metadata(&share.path) {
                Ok(found) if found.is_dir() => known.push(share.clone()),
                Ok(_) => missing(share, "is no folder"),
                Err(error) => missing(share, &error.to_string()),
            }
        }
        Ok(Self { known: known.into(), pins })
    }

    /// What tells the controller where they are.
    pub fn labels(&self) -> impl Iterator<Item = (String, String)> {
        let may = |share: &Share| job::share_value(share.writable, &share.projects);
        self.known.iter().map(move |share| (job::share_label(&share.name), may(share)))
    }

    /// The folder to mount for an input. Blocks.
    pub fn pin(
        &self,
        attempt: &str,
        input: &str,
        project: &str,
        asked: &ShareInput,
    ) -> Result<PathBuf, Error> {
        let share = self.allowed(project, asked)?;
        let wrong = |said: String| Error::Refused(format!("input `{input}`: share `{}`: {said}", share.name));
        let folder = open_below(&share.path, &asked.path).map_err(wrong)?;
        let target = self.pins.join(attempt).join(input);
        release_one(&target)
            .and_then(|()| fs::create_dir_all(&target))
            .and_then(|()| mount(&folder, &target, asked.writable))
            .map_err(|error| wrong(format!("cannot be mounted: {error}")))?;
        Ok(target)
    }

    /// Unmounts what an attempt had. What is not there is fine. Blocks.
    pub fn release(&self, attempt: &str) -> io::Result<()> {
        let folder = self.pins.join(attempt);
        let pins = match fs::read_dir(&folder) {
            Ok(pins) => pins,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for pin in pins {
            release_one(&pin?.path())?;
        }
        fs::remove_dir(&folder)
    }

    /// Those of attempts that nobody has any more go.
    pub fn keep_only(&self, attempts: &BTreeSet<String>) {
        for folder in fs::read_dir(&self.pins).into_iter().flatten().flatten() {
            let name = folder.file_name().to_string_lossy().into_owned();
            if !attempts.contains(&name)
                && let Err(error) = self.release(&name)
            {
                tracing::error!(%error, folder = %folder.path().display(), "a share stays mounted for an ended attempt");
            }
        }
    }

    fn allowed(&self, project: &str, asked: &ShareInput) -> Result<&Share, Error> {
        let name = &asked.share;
        let share = self.known.iter().find(|share| share.name == *name);
        let share = share.ok_or_else(|| Error::Refused(format!("this machine has no share `{name}`")))?;
        if !share.projects.is_empty() && !share.projects.iter().any(|allowed| allowed == project) {
            return Err(Error::Refused(format!(
                "share `{name}` is not for project `{project}` on this machine"
            )));
        }
        if asked.writable && !share.writable {
            return Err(Error::Refused(format!("share `{name}` is read-only on this machine")));
        }
        Ok(share)
    }
}

fn check(share: &Share) -> Result<(), Error> {
    job::check_name("name", &share.name)
        .map_err(|error| Error::Config(format!("`{}`: {error}", share.name)))?;
    if !share.path.is_absolute() || share.path == Path::new("/") {
        let path = share.path.display();
        return Err(Error::Config(format!(
            "`{}`: `{path}` is not the absolute path of a folder below /",
            share.name
        )));
    }
    Ok(())
}

fn missing(share: &Share, why: &str) {
    let path = share.path.display();
    tracing::warn!(
        "share `{}` is not offered: {path}: {why}; restart the agent when it is there",
        share.name
    );
}

/// Never out of `root`, whatever is swapped meanwhile.
fn open_below(root: &Path, path: &str) -> Result<OwnedFd, String> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, root, flags, Mode::empty()).map_err(|error| error.to_string())?;
    if path.is_empty() {
        return Ok(root);
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    openat2(root, path, flags, Mode::empty(), resolve).map_err(|error| match error {
        Errno::XDEV => format!("`{path}` leads out of it"),
        Errno::NOTDIR => format!("`{path}` is no folder"),
        Errno::NOENT => format!("`{path}` is not there"),
        Errno::NOSYS => "this kernel is older than 5.6 and cannot open folders of shares safely".to_owned(),
        other => format!("`{path}`: {other}"),
    })
}

fn mount(folder: &OwnedFd, target: &Path, writable: bool) -> io::Result<()> {
    mount_bind(format!("/proc/self/fd/{}", folder.as_raw_fd()), target)?;
    let mut flags = MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV;
    if !writable {
        flags |= MountFlags::RDONLY;
    }
    if let Err(error) = mount_remount(target, flags, "") {
        release_one(target)?;
        return Err(error.into());
    }
    Ok(())
}

fn release_one(target: &Path) -> io::Result<()> {
    loop {
        match unmount(target, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH) {
            // One may lie over another.
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => break,
            Err(error) => return Err(error.into()),
        }
    }
    match fs::remove_dir(target) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// What a container gets of one share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    pub folder: PathBuf,
    pub writable: bool,
}

/// Input name to what is mounted at `/in/<name>`.
pub type Pins = BTreeMap<String, Pinned>;

#[cfg(test)]
mod tests;
