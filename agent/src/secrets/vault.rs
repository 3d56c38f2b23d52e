//! The folders with secrets that containers mount: on a file system in memory where the machine has one, else in the
//! agent's data directory. Each goes with its attempt; what an earlier process left goes at the start. Blocks.

use super::Value;
use longshore_common::ids::AgentId;
use rustix::fs::statfs;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

/// In memory nearly everywhere.
const CANDIDATES: [&str; 2] = ["/run", "/dev/shm"];
const TMPFS: i64 = 0x0102_1994;

/// Whose files they are in the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Ids(u32, u32),
    /// A name that only the image knows: whoever is in the container may read them, and nobody else gets there.
    Unknown,
}

impl Owner {
    /// Of `uid`, `uid:gid`, a name, or nothing.
    pub fn of(user: &str) -> Self {
        let (user, group) = user.split_once(':').unwrap_or((user, "0"));
        match (user, user.parse(), group.parse()) {
            ("" | "root", _, _) => Self::Ids(0, 0),
            (_, Ok(user), Ok(group)) => Self::Ids(user, group),
            (_, Ok(user), Err(_)) => Self::Ids(user, 0),
            (_, Err(_), _) => Self::Unknown,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Vault {
    base: PathBuf,
}

impl Vault {
    /// This agent's. `otherwise`: where there is no file system in memory.
    pub fn open(agent: AgentId, otherwise: PathBuf) -> Self {
        let in_memory = |path: &&&str| statfs(**path).is_ok_and(|found| found.f_type == TMPFS);
        for candidate in CANDIDATES.iter().filter(in_memory) {
            let base = Path::new(candidate).join("longshore").join(agent.to_string());
            if private(&base).is_ok() {
                return Self { base };
            }
        }
        tracing::warn!(folder = %otherwise.display(), "neither /run nor /dev/shm is in memory: files of secrets touch the disk");
        Self { base: otherwise }
    }

    /// In this folder.
    pub fn at(base: PathBuf) -> Self {
        Self { base }
    }

    /// The folder with these files, for one attempt. One that is there already is made anew.
    pub fn write(&self, attempt: &str, files: &BTreeMap<String, Value>, owner: Owner) -> io::Result<PathBuf> {
        private(&self.base)?;
        let folder = self.base.join(attempt);
        self.remove(attempt)?;
        fs::create_dir(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
        for (name, value) in files {
            let path = folder.join(name);
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o400).open(&path)?;
            file.write_all(value.bytes())?;
            let owned = match owner {
                Owner::Ids(user, group) => chown(&path, Some(user), Some(group)).is_ok(),
                Owner::Unknown => false,
            };
            if !owned {
                // Nobody but this container gets as far as to the file.
                file.set_permissions(fs::Permissions::from_mode(0o444))?;
            }
        }
        Ok(folder)
    }

    pub fn remove(&self, attempt: &str) -> io::Result<()> {
        match fs::remove_dir_all(self.base.join(attempt)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Removes those of attempts that nobody has any more.
    pub fn keep_only(&self, attempts: &BTreeSet<String>) {
        let Ok(folders) = fs::read_dir(&self.base) else { return };
        for folder in folders.flatten() {
            let name = folder.file_name().to_string_lossy().into_owned();
            if !attempts.contains(&name)
                && let Err(error) = self.remove(&name)
            {
                tracing::error!(%error, folder = %folder.path().display(), "secrets of an ended attempt stay");
            }
        }
    }
}

/// For the agent alone.
fn private(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_for_their_owner_and_go_with_the_attempt() {
        let home = tempfile::tempdir().expect("a folder");
        let vault = Vault::at(home.path().join("vault"));
        let files = [("id".to_owned(), Value::new("key"))].into();
        let folder = vault.write("a.1", &files, Owner::Unknown).expect("written");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&home.path().join("vault")), mode(&folder.join("id"))), (0o700, 0o444));
        assert_eq!(fs::read(folder.join("id")).expect("there"), b"key");
        vault.write("a.1", &files, Owner::Unknown).expect("again");
        vault.write("b.1", &files, Owner::Unknown).expect("another");
        vault.keep_only(&["b.1".to_owned()].into());
        assert!(!folder.exists() && home.path().join("vault/b.1/id").exists());
        vault.remove("b.1").expect("removed");
        vault.remove("b.1").expect("gone is fine");
    }

    #[test]
    fn users_are_read_as_docker_reads_them() {
        for (user, owner) in [
            ("", Owner::Ids(0, 0)),
            ("root", Owner::Ids(0, 0)),
            ("1000", Owner::Ids(1000, 0)),
            ("1000:100", Owner::Ids(1000, 100)),
            ("1000:users", Owner::Ids(1000, 0)),
            ("anna", Owner::Unknown),
        ] {
            assert_eq!(Owner::of(user), owner, "{user}");
        }
    }
}
