//! A folder that somebody else filled: opened piece by piece, so that no link can lead out of it.

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io,
};
use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

#[derive(Debug)]
pub(super) struct Folder(OwnedFd);

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Without blocking on a FIFO that took a file's place, without becoming the terminal's owner.
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// A folder in another, if it is one and no link.
pub(super) fn enter(folder: impl AsFd, name: &[u8]) -> io::Result<OwnedFd> {
    openat(folder, name, FOLDER, Mode::empty())
}

impl Folder {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        openat(CWD, path, FOLDER, Mode::empty()).map(Self)
    }

    /// A folder inside; the empty path is this one.
    pub(super) fn open_folder(&self, path: &[u8]) -> io::Result<OwnedFd> {
        let mut folder = openat(&self.0, c".", FOLDER, Mode::empty())?;
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            folder = enter(&folder, name)?;
        }
        Ok(folder)
    }

    /// A file inside. What it is must be asked of the open file: the name may mean another thing by now.
    pub(super) fn open_file(&self, path: &[u8]) -> io::Result<File> {
        let slash = path.iter().rposition(|byte| *byte == b'/');
        let file = match slash {
            None => openat(&self.0, path, FILE, Mode::empty())?,
            Some(at) => openat(self.open_folder(&path[..at])?.as_fd(), &path[at + 1..], FILE, Mode::empty())?,
        };
        Ok(file.into())
    }
}
