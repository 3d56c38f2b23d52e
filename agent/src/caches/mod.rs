//! Folders that jobs of one project keep between them on this node: made when a job first asks, used by several at
//! once, removed when nobody uses them and their room is wanted. Containers write into them: what is inside is never
//! read and no link in it is followed. Must never remove one that an attempt holds.

mod keeper;
#[cfg(test)]
mod tests;

pub(crate) use keeper::keep;

use crate::tree;
use longshore_common::{clock::Timestamp, ids::AttemptRef, job::check_name};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Of the folder of caches: what is being removed. No project has such a name.
const TRASH: &str = ".trash";
/// Of a cache's folder: what containers see, and when that was last.
const DATA: &str = "data";
const USED: &str = "used";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// All caches of this node together; `None`: a fifth of the data directory's disk.
    pub max_bytes: Option<u64>,
    /// One cache; `None`: half of `max_bytes`.
    pub each_bytes: Option<u64>,
    /// With less free than this on the data directory's disk, those used least recently go.
    pub room_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // Models and packages of a lab fit, and four fifths are left for what jobs were promised.
            max_bytes: None,
            // One project that fills its cache does not push out everybody else's.
            each_bytes: None,
            // As with images: well before `capacity.disk_floor_bytes`, at which claims stop.
            room_bytes: 5 << 30,
        }
    }
}

/// Which cache: another project's of the same name is another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) project: String,
    pub(crate) name: String,
}

/// A cache as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) key: Key,
    pub(crate) bytes: u64,
    pub(crate) last_used: Timestamp,
    /// Attempts that hold it.
    pub(crate) users: usize,
}

/// Clones are handles.
#[derive(Clone, Debug)]
pub struct Caches(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    root: PathBuf,
    known: Mutex<BTreeMap<Key, Entry>>,
}

#[derive(Clone, Debug)]
struct Entry {
    users: BTreeSet<AttemptRef>,
    last_used: Timestamp,
    /// On disk.
    is_made: bool,
    bytes: u64,
    /// It may be another size by now.
    is_stale: bool,
    /// Its users were told that it is too large.
    is_told: bool,
}

impl Caches {
    /// What an earlier process kept is known again. Its attempts have to be held before anything is removed.
    pub fn open(root: PathBuf, config: Config) -> io::Result<Self> {
        let mut known = BTreeMap::new();
        for project in folders(&root)? {
            for name in folders(&root.join(&project))? {
                let key = Key { project: project.clone(), name };
                let last_used = last_used(&folder(&root, &key));
                let fresh = Entry { is_made: true, is_stale: true, ..Entry::new(last_used) };
                known.insert(key, fresh);
            }
        }
        Ok(Self(Arc::new(Inner { config, root, known: Mutex::new(known) })))
    }

    /// They stay as long as the attempt has not let go.
    pub(crate) fn hold<'a>(
        &self,
        attempt: AttemptRef,
        project: &str,
        names: impl IntoIterator<Item = &'a String>,
    ) {
        let mut known = self.lock();
        for name in names {
            let key = Key { project: project.to_owned(), name: name.clone() };
            let entry = known.entry(key).or_insert_with(|| Entry::new(Timestamp::now()));
            entry.users.insert(attempt);
        }
    }

    /// The folder to mount, which any user of any image may write to; made if it is not there. Of one that is held.
    /// Blocks.
    pub(crate) fn make(&self, project: &str, name: &str) -> io::Result<PathBuf> {
        // The controller has checked them; a path is never made of what nobody has.
        for part in [project, name] {
            check_name("", part).map_err(|error| io::Error::new(ErrorKind::InvalidInput, error.message))?;
        }
        let key = Key { project: project.to_owned(), name: name.to_owned() };
        let own = folder(&self.0.root, &key);
        let data = own.join(DATA);
        let now = Timestamp::now();
        let mut known = self.lock();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&data)?;
        // Sticky, as /out is.
        fs::set_permissions(&data, fs::Permissions::from_mode(0o1777))?;
        note_use(&own, now);
        let entry = known.entry(key).or_insert_with(|| Entry::new(now));
        (entry.is_made, entry.is_stale, entry.last_used) = (true, true, now);
        Ok(data)
    }

    /// Its container is over.
    pub(crate) fn release(&self, attempt: &AttemptRef) {
        let now = Timestamp::now();
        self.lock().retain(|key, entry| {
            if entry.users.remove(attempt) {
                (entry.last_used, entry.is_stale) = (now, true);
                if entry.is_made && entry.users.is_empty() {
                    note_use(&folder(&self.0.root, key), now);
                }
            }
            entry.is_made || !entry.users.is_empty()
        });
    }

    pub(crate) fn list(&self) -> Vec<Kept> {
        let kept = |(key, entry): (&Key, &Entry)| Kept {
            key: key.clone(),
            bytes: entry.bytes,
            last_used: entry.last_used,
            users: entry.users.len(),
        };
        self.lock().iter().filter(|(_, entry)| entry.is_made).map(kept).collect()
    }

    /// For all, and for each, on a disk of this size.
    pub(crate) fn bounds(&self, disk_bytes: u64) -> (u64, u64) {
        let all = self.0.config.max_bytes.unwrap_or(disk_bytes / 5);
        (all, self.0.config.each_bytes.unwrap_or(all / 2))
    }

    /// The next that is to go, out of the way already: its name is free for a new one. `None`: all may stay.
    /// Blocks.
    fn set_aside(&self, (all, each): (u64, u64), is_short: bool) -> io::Result<Option<(Key, u64, PathBuf)>> {
        let mut known = self.lock();
        let sum = known.values().fold(0_u64, |sum, entry| sum.saturating_add(entry.bytes));
        let idle = || known.iter().filter(|(_, entry)| entry.is_made && entry.users.is_empty());
        let too_large = idle().find(|(_, entry)| entry.bytes > each);
        let oldest = || idle().min_by_key(|(_, entry)| entry.last_used).filter(|_| sum > all || is_short);
        let Some((key, bytes)) = too_large.or_else(oldest).map(|(key, entry)| (key.clone(), entry.bytes))
        else {
            return Ok(None);
        };
        let trash = self.0.root.join(TRASH);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&trash)?;
        let aside = trash.join(uuid::Uuid::new_v4().to_string());
        match fs::rename(folder(&self.0.root, &key), &aside) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        known.remove(&key);
        Ok(Some((key, bytes, aside)))
    }

    /// What was set aside and is not gone, as after a kill. Blocks.
    fn empty_trash(&self) {
        for left in fs::read_dir(self.0.root.join(TRASH)).into_iter().flatten().flatten() {
            remove(&left.path());
        }
    }

    fn data(&self, key: &Key) -> PathBuf {
        folder(&self.0.root, key).join(DATA)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Entry>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    const fn new(last_used: Timestamp) -> Self {
        Self { users: BTreeSet::new(), last_used, is_made: false, bytes: 0, is_stale: false, is_told: false }
    }
}

fn folder(root: &Path, key: &Key) -> PathBuf {
    root.join(&key.project).join(&key.name)
}

fn remove(path: &Path) {
    if let Err(error) = tree::remove(path) {
        tracing::warn!(%error, path = %path.display(), "what was a cache cannot be removed yet");
    }
}

/// Names of folders that may be ours.
fn folders(of: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    let entries = match fs::read_dir(of) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(names),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string()
            && check_name("", &name).is_ok()
            && entry.file_type()?.is_dir()
        {
            names.push(name);
        }
    }
    Ok(names)
}

/// One that does not say is taken for the oldest.
fn last_used(own: &Path) -> Timestamp {
    let text = fs::read_to_string(own.join(USED)).unwrap_or_default();
    Timestamp::from_micros(text.trim().parse().unwrap_or(0))
}

/// A use that is not on disk costs a cache its place in line, no more.
fn note_use(own: &Path, now: Timestamp) {
    if let Err(error) = fs::write(own.join(USED), format!("{}\n", now.as_micros())) {
        tracing::debug!(%error, path = %own.display(), "the use of a cache is not noted");
    }
}
