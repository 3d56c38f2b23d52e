//! The agent's data directory: locked by one process, and home of the agent's id. Never shared by two agents.

use longshore_common::{durable, ids::AgentId};
use std::{
    fs::{self, File, TryLockError},
    io::{self, ErrorKind},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("data directory `{path}` cannot be used: {source}; name another with `data_dir`")]
    Io { path: PathBuf, source: io::Error },
    #[error("data directory `{0}` belongs to an agent that runs; give every agent its own `data_dir`")]
    Taken(PathBuf),
    #[error("`{0}` does not hold an agent id; restore it, or remove it to become a new agent")]
    BadId(PathBuf),
}

/// A data directory that is ours as long as this lives.
#[derive(Debug)]
pub struct Home {
    dir: PathBuf,
    id: AgentId,
    _lock: File,
}

impl Home {
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Io { path: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(failed)?;
        let lock = File::create(dir.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Taken(dir.to_owned())),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        Ok(Self { dir: dir.to_owned(), id: agent_id(&dir.join("agent-id"))?, _lock: lock })
    }

    pub const fn id(&self) -> AgentId {
        self.id
    }

    /// A file inside, which need not be there.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A folder inside, made if it is missing.
    pub fn folder(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.dir.join(name);
        // Scratch holds whatever root of a container left, set-uid files too, and the journal holds environments:
        // nobody else may enter.
        let closed = || fs::set_permissions(&path, fs::Permissions::from_mode(0o700));
        match fs::create_dir_all(&path).and_then(|()| closed()) {
            Ok(()) => Ok(path),
            Err(source) => Err(Error::Io { path, source }),
        }
    }
}

/// Chosen once, kept for ever.
fn agent_id(path: &Path) -> Result<AgentId, Error> {
    let failed = |source| Error::Io { path: path.to_owned(), source };
    match fs::read_to_string(path) {
        Ok(text) => text.trim().parse().map_err(|_| Error::BadId(path.to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let id = AgentId::new();
            durable::replace(path, format!("{id}\n").as_bytes()).map_err(failed)?;
            Ok(id)
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_may_enter_what_containers_leave() {
        let dir = tempfile::tempdir().expect("a folder");
        let home = Home::open(dir.path()).expect("open");
        let attempts = home.folder("attempts").expect("made");
        assert_eq!(fs::metadata(attempts).expect("there").permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn the_id_survives_and_two_agents_cannot_share_a_home() {
        let dir = tempfile::tempdir().unwrap();
        let first = Home::open(dir.path()).unwrap();
        let id = first.id();
        assert!(matches!(Home::open(dir.path()), Err(Error::Taken(_))));
        drop(first);
        assert_eq!(Home::open(dir.path()).unwrap().id(), id);
        fs::write(dir.path().join("agent-id"), "nonsense").unwrap();
        assert!(matches!(Home::open(dir.path()), Err(Error::BadId(_))));
    }
}
