//! One attempt's encoded log, kept until the attempt is finished: the newest bytes in memory, older ones in a file
//! that exists only once a log outgrows its window. Blocks on the disk: called off the async threads but for what
//! lies in memory.

use bytes::Bytes;
use longshore_common::logs::{DecodeError, whole_records};
use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// Where the bytes of a log are. `kept_from <= file_end`; everything between `kept_from` and `end` can be read.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Earlier bytes are gone: the controller had them when the disk had no room.
    kept_from: u64,
    /// The file holds the bytes up to here, `tail` those from here.
    file_end: u64,
    pub(super) tail: Vec<u8>,
    /// Why the disk did not take the tail at the last try.
    pub(super) disk_error: Option<String>,
}

/// Bytes that lie in memory, and a range of the file that comes before them.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) from: u64,
    in_file: usize,
    in_memory: Vec<u8>,
}

impl Window {
    /// Of a log whose bytes before `offset` the controller has.
    pub(super) fn starting_at(offset: u64) -> Self {
        Self { kept_from: offset, file_end: offset, ..Self::default() }
    }

    pub(super) fn end(&self) -> u64 {
        self.file_end + self.tail.len() as u64
    }

    /// Takes note that the controller has everything before `stored`. Without room on disk that makes room here.
    pub(super) fn stored(&mut self, stored: u64) {
        if self.disk_error.is_some() && stored > self.file_end {
            self.forget_tail_before(stored);
            self.kept_from = stored;
        }
    }

    /// What to send from `from`, at most `most` bytes; `None` if these bytes are gone.
    pub(super) fn plan(&self, from: u64, most: usize) -> Option<Plan> {
        if from < self.kept_from || from > self.end() {
            return None;
        }
        let in_file = usize::try_from(self.file_end.saturating_sub(from)).map_or(most, |n| n.min(most));
        let skip = usize::try_from(from.saturating_sub(self.file_end)).ok()?;
        let rest = self.tail.get(skip..)?;
        let in_memory = rest[..rest.len().min(most - in_file)].to_vec();
        Some(Plan { from, in_file, in_memory })
    }

    fn forget_tail_before(&mut self, offset: u64) {
        if let Ok(length) = usize::try_from(offset.saturating_sub(self.file_end)) {
            let length = length.min(self.tail.len());
            self.tail.drain(..length);
            self.file_end += length as u64;
        }
    }

    fn file_holds_up_to(&mut self, offset: u64) {
        self.disk_error = None;
        self.forget_tail_before(offset);
    }
}

impl Plan {
    pub(super) const fn needs_file(&self) -> bool {
        self.in_file > 0
    }

    /// Whole records only: the controller takes nothing else.
    pub(super) fn read(self, file: &SpoolFile) -> io::Result<Bytes> {
        let mut bytes = self.in_memory;
        if self.in_file > 0 {
            let mut joined = vec![0; self.in_file];
            file.read(&mut joined, self.from)?;
            joined.append(&mut bytes);
            bytes = joined;
        }
        let invalid = |err: DecodeError| io::Error::new(io::ErrorKind::InvalidData, err);
        bytes.truncate(whole_records(&bytes).map_err(invalid)?);
        Ok(bytes.into())
    }
}

/// The file of one log, made by the first write.
#[derive(Debug)]
pub(super) struct SpoolFile {
    path: PathBuf,
    file: std::sync::Mutex<Option<std::sync::Arc<File>>>,
}

impl SpoolFile {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path, file: std::sync::Mutex::new(None) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves what `window` has in memory to the disk. Only one call at a time may write a file.
    pub(super) fn spill(&self, window: &std::sync::Mutex<impl AsMut<Window>>) {
        let mut file = lock(&self.file);
        let (from, bytes) = {
            let mut state = lock(window);
            let window = state.as_mut();
            (window.file_end, window.tail.clone())
        };
        if bytes.is_empty() {
            return;
        }
        let written = self.write(&mut file, &bytes, from);
        let mut state = lock(window);
        match written {
            Ok(()) => state.as_mut().file_holds_up_to(from + bytes.len() as u64),
            Err(err) => state.as_mut().disk_error = Some(err.to_string()),
        }
    }

    pub(super) fn exists(&self) -> bool {
        lock(&self.file).is_some()
    }

    /// Removes the file if there is one.
    pub(super) fn remove(&self) -> io::Result<()> {
        if lock(&self.file).take().is_some() { std::fs::remove_file(&self.path) } else { Ok(()) }
    }

    fn write(&self, file: &mut Option<std::sync::Arc<File>>, bytes: &[u8], at: u64) -> io::Result<()> {
        if file.is_none() {
            let options = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).clone();
            *file = Some(std::sync::Arc::new(options.open(&self.path)?));
        }
        file.as_ref().map_or(Ok(()), |file| file.write_all_at(bytes, at))
    }

    fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        let file = lock(&self.file).clone();
        file.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?.read_exact_at(bytes, at)
    }
}

/// A panic while a lock is held loses at most a line; the log goes on.
pub(super) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
