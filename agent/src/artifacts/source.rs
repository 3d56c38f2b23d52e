//! One open file of `/out` on its way out: read from disk in small pieces, hashed as it goes. Never trusts that the
//! file stays as it was when it was opened.

use super::folder::Folder;
use bytes::Bytes;
use longshore_common::clock::Timestamp;
use sha2::{Digest as _, Sha256};
use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    sync::{Arc, OnceLock},
};
use tokio::{sync::mpsc, task::JoinHandle};

/// Files up to this size are read at once: they cost round trips, not memory.
const SMALL: u64 = 256 << 10;
/// One read of a larger one.
const PIECE: usize = 128 << 10;

pub(super) type Sha = [u8; 32];

#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) modified_at: Timestamp,
    changed_at: (i64, i64),
    file: Arc<File>,
    /// Bytes and digest of a small file.
    pub(super) whole: Option<(Bytes, Sha)>,
}

impl Source {
    /// `None`: gone, or not a regular file any more. Blocks.
    pub(super) fn open(folder: &Folder, path: &[u8]) -> io::Result<Option<Self>> {
        use rustix::io::Errno;
        let file = match folder.open_file(path) {
            Ok(file) => file,
            // A link, a name that is gone, a folder that is a file, a socket, a device without a driver.
            Err(Errno::LOOP | Errno::NOENT | Errno::NOTDIR | Errno::NXIO | Errno::NODEV) => return Ok(None),
            Err(err) => return Err(err.into()),
        };
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Ok(None);
        }
        let mut source = Self {
            size: meta.len(),
            mode: meta.mode() & 0o7777,
            modified_at: Timestamp::from_micros(
                meta.mtime().saturating_mul(1_000_000).saturating_add(meta.mtime_nsec() / 1_000),
            ),
            changed_at: (meta.ctime(), meta.ctime_nsec()),
            file: Arc::new(file),
            whole: None,
        };
        if source.size <= SMALL {
            source.read_whole()?;
        }
        Ok(Some(source))
    }

    /// The bytes of a part, as they are read. Whoever drops the receiver ends the reading.
    pub(super) fn stream(&self, from: u64, length: u64) -> (mpsc::Receiver<io::Result<Bytes>>, Reading) {
        let (pieces, receiver) = mpsc::channel(2);
        let (file, failure) = (Arc::clone(&self.file), Arc::new(OnceLock::new()));
        let failed = Arc::clone(&failure);
        let thread = tokio::task::spawn_blocking(move || {
            let mut sha = Sha256::new();
            let result = each_piece(&file, from, length, |piece| {
                sha.update(&piece);
                pieces.blocking_send(Ok(piece)).is_ok()
            });
            if let Err(err) = &result {
                let told = failed.get_or_init(|| (err.kind(), err.to_string()));
                // The receiver may be gone: then nobody needs to be told.
                drop(pieces.blocking_send(Err(io::Error::new(told.0, told.1.clone()))));
            }
            result.map(|()| sha.finalize().into())
        });
        (receiver, Reading { thread, failure })
    }

    /// Digest of the whole file, read beside its upload. Dropping the result ends the reading.
    pub(super) fn digest(&self) -> tokio::sync::oneshot::Receiver<io::Result<Sha>> {
        let (answer, receiver) = tokio::sync::oneshot::channel();
        let (file, size) = (Arc::clone(&self.file), self.size);
        tokio::task::spawn_blocking(move || {
            let mut sha = Sha256::new();
            let result = each_piece(&file, 0, size, |piece| {
                sha.update(&piece);
                !answer.is_closed()
            });
            // Dropped: the upload was given up.
            drop(answer.send(result.map(|()| sha.finalize().into())));
        });
        receiver
    }

    /// Whether the file is what it was when it was opened. Every write moves its change time.
    pub(super) fn is_unchanged(&self) -> bool {
        self.file
            .metadata()
            .is_ok_and(|meta| meta.len() == self.size && (meta.ctime(), meta.ctime_nsec()) == self.changed_at)
    }

    /// What was read is what counts: a file that shrank or grew since is as long as it was read.
    fn read_whole(&mut self) -> io::Result<()> {
        let mut bytes = vec![0; usize::try_from(self.size).unwrap_or(0)];
        let mut filled = 0;
        while filled < bytes.len() {
            match self.file.read_at(&mut bytes[filled..], filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
        bytes.truncate(filled);
        self.size = filled as u64;
        let sha = Sha256::digest(&bytes).into();
        self.whole = Some((bytes.into(), sha));
        Ok(())
    }
}

/// A file being read in the background.
#[derive(Debug)]
pub(super) struct Reading {
    thread: JoinHandle<io::Result<Sha>>,
    failure: Arc<OnceLock<(io::ErrorKind, String)>>,
}

impl Reading {
    /// Digest of what was read, at its end.
    pub(super) async fn digest(self) -> io::Result<Sha> {
        self.thread.await.unwrap_or_else(|err| Err(io::Error::other(err)))
    }

    /// Why the file gave no more bytes, if it was the file's fault. Does not wait: a store that stopped listening
    /// may keep the reader blocked until its connection is gone.
    pub(super) fn failure(&self) -> Option<io::Error> {
        let (kind, text) = self.failure.get()?;
        (*kind != io::ErrorKind::BrokenPipe).then(|| io::Error::new(*kind, text.clone()))
    }
}

/// Reads until `length` bytes were given or `give` wants no more. A file that is shorter is an error.
fn each_piece(file: &File, from: u64, length: u64, mut give: impl FnMut(Bytes) -> bool) -> io::Result<()> {
    let mut at = from;
    let end = from + length;
    while at < end {
        let mut piece = vec![0; usize::try_from(end - at).map_or(PIECE, |left| left.min(PIECE))];
        let read = match file.read_at(&mut piece, at) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter")),
            Ok(read) => read,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(err) => return Err(err),
        };
        piece.truncate(read);
        at += read as u64;
        if !give(piece.into()) {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "given up"));
        }
    }
    Ok(())
}
