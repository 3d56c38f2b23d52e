//! Bytes from a request to a file: exact size, bounded memory, durable before the name appears.

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use sha2::{Digest as _, Sha256};
use std::{fmt, fs, io, os::unix::fs::FileExt as _, path::Path};

/// Bodies up to this size are gathered and written in one step.
pub(super) const SMALL: u64 = 1 << 20;
/// What is gathered before each write of a larger body.
const BATCH: usize = 1 << 20;

/// Why a body was not stored.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("the address is signed for {expected} bytes; {got} came")]
    WrongSize { expected: u64, got: u64 },
    /// Stored under its digest it would spoil the input of every job that names the same content.
    #[error("the body is not the content it is stored as: its SHA-256 is {got}; has the file changed?")]
    WrongDigest { got: String },
    #[error("the upload is not open: it was completed, aborted or abandoned")]
    UnknownUpload,
    #[error("the disk under the controller's data directory is full")]
    Full,
    #[error("the body broke off: {0}")]
    Body(String),
    #[error("the object could not be written: {0}")]
    Io(io::Error),
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Io(error),
        }
    }
}

/// A file that is being written.
pub(super) struct Sink {
    file: fs::File,
    offset: u64,
    hash: Option<Sha256>,
}

impl Sink {
    pub(super) fn new(file: fs::File, offset: u64, hashed: bool) -> Self {
        Self { file, offset, hash: hashed.then(Sha256::new) }
    }

    /// Digest of all that was written, as hex; empty if it was not asked for.
    pub(super) fn digest(self) -> String {
        self.hash.map(|hash| hex::encode(hash.finalize())).unwrap_or_default()
    }

    fn write(&mut self, chunks: &[Bytes]) -> io::Result<()> {
        for chunk in chunks {
            self.file.write_all_at(chunk, self.offset)?;
            self.offset += chunk.len() as u64;
            if let Some(hash) = &mut self.hash {
                hash.update(chunk);
            }
        }
        Ok(())
    }
}

/// The whole of a small body.
pub(super) async fn collect<S, E>(size: u64, mut body: S) -> Result<Vec<Bytes>, WriteError>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: fmt::Display,
{
    let (mut chunks, mut got) = (Vec::new(), 0);
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| WriteError::Body(error.to_string()))?;
        got = count(got, &chunk, size)?;
        chunks.push(chunk);
    }
    if got == size { Ok(chunks) } else { Err(WriteError::WrongSize { expected: size, got }) }
}

/// Writes a body of exactly `size` bytes and syncs it. One batch is written while the next one is gathered.
pub(super) async fn copy<S, E>(sink: Sink, size: u64, mut body: S) -> Result<Sink, WriteError>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: fmt::Display,
{
    let (mut got, mut gathered, mut batch) = (0, 0, Vec::new());
    let mut writing = flush(sink, Vec::new());
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| WriteError::Body(error.to_string()))?;
        got = count(got, &chunk, size)?;
        gathered += chunk.len();
        batch.push(chunk);
        if gathered >= BATCH {
            let sink = writing.await.map_err(io::Error::other)??;
            writing = flush(sink, std::mem::take(&mut batch));
            gathered = 0;
        }
    }
    if got != size {
        return Err(WriteError::WrongSize { expected: size, got });
    }
    let sink = writing.await.map_err(io::Error::other)??;
    let sink = flush(sink, batch).await.map_err(io::Error::other)??;
    let synced = tokio::task::spawn_blocking(move || sink.file.sync_data().map(|()| sink));
    Ok(synced.await.map_err(io::Error::other)??)
}

/// Refuses content that is not what its key says.
pub(super) fn check_digest(expected: Option<&str>, got: impl FnOnce() -> String) -> Result<(), WriteError> {
    let Some(expected) = expected else { return Ok(()) };
    let got = got();
    if got == expected { Ok(()) } else { Err(WriteError::WrongDigest { got }) }
}

/// The digest of gathered chunks, as hex.
pub(super) fn digest(chunks: &[Bytes]) -> String {
    let mut hash = Sha256::new();
    for chunk in chunks {
        hash.update(chunk);
    }
    hex::encode(hash.finalize())
}

/// The digest of a file, as hex.
pub(super) fn digest_file(path: &Path) -> io::Result<String> {
    use io::Read as _;
    let (mut file, mut hash) = (fs::File::open(path)?, Sha256::new());
    let mut buffer = vec![0; BATCH];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(hash.finalize())),
            read => hash.update(&buffer[..read]),
        }
    }
}

/// Writes, syncs and names a small object in one go.
pub(super) fn write_small(temporary: &Path, target: &Path, chunks: &[Bytes]) -> io::Result<()> {
    let file = fs::File::create_new(temporary)?;
    let mut sink = Sink::new(file, 0, false);
    let written = sink.write(chunks).and_then(|()| publish(temporary, target));
    if written.is_err() {
        // Best effort: the folder is emptied at every start.
        drop(fs::remove_file(temporary));
    }
    written
}

/// Gives written bytes their name, durably.
pub(super) fn publish(from: &Path, target: &Path) -> io::Result<()> {
    fs::File::open(from)?.sync_all()?;
    let folder = target.parent().ok_or(io::ErrorKind::InvalidInput)?;
    if let Err(error) = fs::rename(from, target) {
        if error.kind() != io::ErrorKind::NotFound {
            return Err(error);
        }
        fs::create_dir_all(folder)?;
        fs::rename(from, target)?;
    }
    fs::File::open(folder)?.sync_all()
}

fn flush(mut sink: Sink, batch: Vec<Bytes>) -> tokio::task::JoinHandle<io::Result<Sink>> {
    tokio::task::spawn_blocking(move || sink.write(&batch).map(|()| sink))
}

fn count(got: u64, chunk: &Bytes, size: u64) -> Result<u64, WriteError> {
    let got = got + chunk.len() as u64;
    if got > size { Err(WriteError::WrongSize { expected: size, got }) } else { Ok(got) }
}
