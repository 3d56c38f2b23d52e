//! Room for bodies on the controller's disk. A part of it is never theirs: the database must be able to commit how
//! jobs ended, and what frees space, when everything else is full.

use super::WriteError;
use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

#[derive(Debug)]
pub(super) struct Room {
    path: PathBuf,
    reserve: u64,
    /// Bytes promised to bodies that are on their way.
    promised: AtomicU64,
}

/// Room for one body, until it is dropped.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    room: &'a Room,
    size: u64,
}

impl Room {
    pub(super) fn new(path: &Path, reserve: u64) -> Self {
        Self { path: path.to_owned(), reserve, promised: AtomicU64::new(0) }
    }

    /// Bytes of bodies on their way are counted twice as they arrive: that errs on the safe side.
    pub(super) fn take(&self, size: u64) -> Result<Taken<'_>, WriteError> {
        // A disk that cannot be asked is not called full: the write itself will tell.
        let free = fs4::available_space(&self.path).unwrap_or(u64::MAX);
        let before = self.promised.fetch_add(size, Ordering::Relaxed);
        let taken = Taken { room: self, size };
        let wanted = before.saturating_add(size).saturating_add(self.reserve);
        if wanted <= free { Ok(taken) } else { Err(WriteError::Full) }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.room.promised.fetch_sub(self.size, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_on_their_way_share_what_is_free_and_the_reserve_is_not_theirs() {
        let folder = tempfile::tempdir().expect("a folder");
        let free = fs4::available_space(folder.path()).expect("asked");
        let room = Room::new(folder.path(), free / 2);
        let first = room.take(free / 3).expect("a third of it fits beside a half");
        assert!(matches!(room.take(free / 3), Err(WriteError::Full)), "two thirds do not");
        drop(first);
        room.take(free / 3).expect("room came back");
        assert!(matches!(Room::new(folder.path(), u64::MAX).take(0), Err(WriteError::Full)));
    }
}
