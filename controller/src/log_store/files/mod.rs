//! One appended file per attempt. A write survives the end of this process at once, and that of the machine when
//! the kernel has written it (seconds); a torn end is cut off when the file is opened again.

mod file;
#[cfg(test)]
mod tests;

use super::{Append, Error, LogKey, LogStore};
use async_trait::async_trait;
use bytes::Bytes;
use file::Stored;
use longshore_common::logs::{LONGEST_RECORD, whole_records};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::watch;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The most that is kept of one attempt, frames included.
    pub cap_bytes: u64,
    /// Files kept open at most.
    pub open_files: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // The agent cuts at 256 MiB of text and says so in the log: this only stops one that does not, and
            // leaves room for the frames of very short lines.
            cap_bytes: 1 << 30,
            // Half of the usual limit of 1,024 descriptors.
            open_files: 512,
        }
    }
}

/// Logs under one directory.
#[derive(Clone, Debug)]
pub struct Files(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    config: Config,
    open: Mutex<HashMap<LogKey, Arc<Log>>>,
    /// Counts uses, so that the longest unused can be told.
    clock: AtomicU64,
}

#[derive(Debug)]
struct Log {
    path: PathBuf,
    /// Held for a write, never across an await.
    state: Mutex<Stored>,
    end: watch::Sender<u64>,
    used: AtomicU64,
}

impl Files {
    pub fn open(root: &Path, config: Config) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        let inner = Inner {
            root: root.to_owned(),
            config,
            open: Mutex::new(HashMap::new()),
            clock: AtomicU64::new(0),
        };
        Ok(Self(Arc::new(inner)))
    }
}

impl Inner {
    fn path(&self, key: LogKey) -> PathBuf {
        let job = key.0.job.to_string();
        // The end of a UUIDv7 is random, its beginning is the same for all jobs of a minute.
        self.root.join(&job[job.len() - 2..]).join(format!("{key}.log"))
    }

    fn log(&self, key: LogKey) -> Result<Arc<Log>, Error> {
        let used = self.clock.fetch_add(1, Ordering::Relaxed);
        // Held over the load: it may cut a torn end, which must not be the end of a write under way.
        let mut open = self.lock();
        if let Some(log) = open.get(&key) {
            log.used.store(used, Ordering::Relaxed);
            return Ok(Arc::clone(log));
        }
        let path = self.path(key);
        let state = Stored::load(&path).map_err(|error| failed(&path, error))?;
        let log =
            Log { path, end: watch::Sender::new(state.end), state: Mutex::new(state), used: used.into() };
        if open.len() >= self.config.open_files.max(1) {
            evict(&mut open);
        }
        let log = Arc::new(log);
        open.insert(key, Arc::clone(&log));
        Ok(log)
    }

    fn append(&self, append: &Append) -> Result<u64, Error> {
        let whole = whole_records(&append.data)?;
        if whole != append.data.len() {
            return Err(Error::Malformed(format!("the last record lacks bytes after offset {whole}")));
        }
        let log = self.log(append.key)?;
        let mut state = log.lock();
        let end = state.end;
        if append.offset > end {
            return Ok(end);
        }
        let stored = usize::try_from(end - append.offset).unwrap_or(usize::MAX);
        let Some(fresh) = append.data.get(stored..).filter(|fresh| !fresh.is_empty()) else { return Ok(end) };
        if stored > 0 && whole_records(fresh)? != fresh.len() {
            return Err(Error::Malformed(format!("no record begins at offset {end}")));
        }
        if end + fresh.len() as u64 > self.config.cap_bytes {
            return Err(Error::TooLong { cap: self.config.cap_bytes });
        }
        state.write(&log.path, fresh).map_err(|error| failed(&log.path, error))?;
        let end = state.end;
        // Under the lock, so that ends are told in order.
        log.end.send_replace(end);
        Ok(end)
    }

    fn read(&self, key: LogKey, from: u64, max: usize) -> Result<Bytes, Error> {
        let log = self.log(key)?;
        let (file, end) = {
            let state = log.lock();
            (state.file.as_ref().map(fs::File::try_clone), state.end)
        };
        let Some(file) = file.filter(|_| from < end) else { return Ok(Bytes::new()) };
        let file = file.map_err(|error| failed(&log.path, error))?;
        let max = max.max(LONGEST_RECORD) as u64;
        let mut bytes = vec![0; usize::try_from(max.min(end - from)).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, from).map_err(|error| failed(&log.path, error))?;
        bytes.truncate(whole_records(&bytes)?);
        Ok(bytes.into())
    }

    fn delete(&self, keys: &[LogKey]) -> Result<(), Error> {
        for key in keys {
            self.lock().remove(key);
            let path = self.path(*key);
            file::remove(&path).map_err(|error| failed(&path, error))?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LogKey, Arc<Log>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Stored> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl LogStore for Files {
    async fn append(&self, appends: Vec<Append>) -> Vec<Result<u64, Error>> {
        let (inner, count) = (Arc::clone(&self.0), appends.len());
        let work = move || appends.iter().map(|append| inner.append(append)).collect();
        match tokio::task::spawn_blocking(work).await {
            Ok(results) => results,
            Err(error) => vec![Err(failed(&self.0.root, io::Error::other(error))); count],
        }
    }

    async fn read(&self, key: LogKey, from: u64, max: usize) -> Result<Bytes, Error> {
        self.blocking(move |inner| inner.read(key, from, max)).await
    }

    async fn watch(&self, key: LogKey) -> Result<watch::Receiver<u64>, Error> {
        self.blocking(move |inner| inner.log(key).map(|log| log.end.subscribe())).await
    }

    async fn boundaries(&self, key: LogKey) -> Result<Vec<u64>, Error> {
        self.blocking(move |inner| inner.log(key).map(|log| log.lock().boundaries.clone())).await
    }

    async fn seal(&self, key: LogKey) {
        let mut open = self.0.lock();
        if open.get(&key).is_some_and(idle) {
            open.remove(&key);
        }
    }

    async fn delete(&self, keys: &[LogKey]) -> Result<(), Error> {
        let keys = keys.to_vec();
        self.blocking(move |inner| inner.delete(&keys)).await
    }
}

impl Files {
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || work(&inner))
            .await
            .map_err(|error| failed(&self.0.root, io::Error::other(error)))?
    }
}

/// Nobody writes it, reads it or waits for its end to move.
fn idle(log: &Arc<Log>) -> bool {
    Arc::strong_count(log) == 1 && log.end.receiver_count() == 0
}

/// Closes the longest unused quarter of those nobody follows or writes.
fn evict(open: &mut HashMap<LogKey, Arc<Log>>) {
    let mut uses: Vec<_> =
        open.values().filter(|log| idle(log)).map(|log| log.used.load(Ordering::Relaxed)).collect();
    uses.sort_unstable();
    let Some(limit) = uses.get(uses.len() / 4).copied() else { return };
    open.retain(|_, log| !idle(log) || log.used.load(Ordering::Relaxed) > limit);
}

fn failed(path: &Path, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Full { path: path.to_owned() },
        _ => Error::Failed { path: path.to_owned(), error: Arc::new(error) },
    }
}
