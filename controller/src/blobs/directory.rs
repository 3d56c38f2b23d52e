//! Objects as files under a directory, behind addresses signed here and served by `http::bytes`.
//! A file has its name only when all its bytes are on the disk. Must never build a path from a caller's text.

use super::{
    Blobs, Content, Error, digest_of_key,
    room::Room,
    ticket::{Action, Denied, Signer, Ticket},
    writer::{self, Sink, WriteError},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use longshore_common::artifact::{UploadTarget, part_size};
use sha2::{Digest as _, Sha256};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio_util::io::ReaderStream;

/// What is read from a file at a time.
const CHUNK: usize = 256 << 10;

#[derive(Clone, Debug)]
pub struct Directory(Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    objects: PathBuf,
    pub(super) uploads: PathBuf,
    /// On the same file system as the objects, so that a rename is atomic.
    temporary: PathBuf,
    /// Scheme, host and port of the addresses.
    base: String,
    signer: Signer,
    room: Room,
}

impl Directory {
    /// Opens or makes the store below `root`; addresses begin with `base` (`http://host:port`). `reserve` bytes of
    /// the disk stay free of bodies.
    pub fn open(root: &Path, base: &str, reserve: u64) -> io::Result<Self> {
        let inner = Inner {
            objects: root.join("objects"),
            uploads: root.join("uploads"),
            temporary: root.join("tmp"),
            base: base.trim_end_matches('/').to_owned(),
            signer: Signer::new(&secret(root)?),
            room: Room::new(root, reserve),
        };
        if inner.temporary.exists() {
            fs::remove_dir_all(&inner.temporary)?;
        }
        for folder in [&inner.objects, &inner.uploads, &inner.temporary] {
            fs::create_dir_all(folder)?;
        }
        Ok(Self(Arc::new(inner)))
    }

    /// What an address allows, if it is one of ours and still good.
    pub fn verify(&self, method: &http::Method, key: &str, query: &str) -> Result<Ticket, Denied> {
        self.0.signer.verify(method, key, query, now_seconds())
    }

    /// Stores the body of a single PUT.
    pub async fn write_object<S, E>(&self, ticket: &Ticket, body: S) -> Result<(), WriteError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin,
        E: std::fmt::Display,
    {
        let _taken = self.0.room.take(ticket.size)?;
        let target = self.0.object(&ticket.key);
        let temporary = self.0.temporary.join(random_name());
        let written = write_whole(&temporary, &target, ticket, body).await;
        if written.is_err() {
            remove_quietly(&temporary).await;
        }
        written
    }

    /// Stores one part where it belongs in the object and answers its ETag. A repeat overwrites.
    pub async fn write_part<S, E>(&self, ticket: &Ticket, body: S) -> Result<String, WriteError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin,
        E: std::fmt::Display,
    {
        let folder = self.0.upload(&ticket.upload).ok_or(WriteError::UnknownUpload)?;
        let _taken = self.0.room.take(ticket.size)?;
        let (data, mark) = (folder.join("data"), folder.join(format!("{}.etag", ticket.part)));
        let old = mark.clone();
        let open = move || {
            // A repeat that breaks off must not keep the mark of the bytes it overwrote.
            fs::remove_file(old).or_else(gone_is_fine)?;
            fs::OpenOptions::new().write(true).open(data)
        };
        let file = blocking(open).await.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => WriteError::UnknownUpload,
            _ => WriteError::from(error),
        })?;
        let sink = writer::copy(Sink::new(file, ticket.offset, true), ticket.size, body).await?;
        let etag = sink.digest();
        let stored = etag.clone();
        blocking(move || fs::write(mark, stored)).await?;
        Ok(etag)
    }

    /// An object's file and size.
    pub async fn read(&self, key: &str) -> io::Result<Option<(fs::File, u64)>> {
        let path = self.0.object(key);
        blocking(move || match fs::File::open(path) {
            Ok(file) => {
                let size = file.metadata()?.len();
                Ok(Some((file, size)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }
}

impl Inner {
    /// By the digest of its key: keys never become paths, and folders stay small.
    pub(super) fn object(&self, key: &str) -> PathBuf {
        let name = hex::encode(Sha256::digest(key));
        self.objects.join(&name[..1]).join(&name[1..3]).join(&name[3..])
    }

    pub(super) fn upload(&self, id: &str) -> Option<PathBuf> {
        let plain = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
        plain.then(|| self.uploads.join(id))
    }

    fn address(&self, ticket: &Ticket) -> String {
        format!("{}{}", self.base, self.signer.sign(ticket))
    }
}

#[async_trait]
impl Blobs for Directory {
    async fn content(&self, key: &str) -> Result<Option<(u64, Content)>, Error> {
        let found = self.read(key).await.map_err(|error| Error::Unreachable(error.to_string()))?;
        Ok(found.map(|(file, size)| {
            let bytes = ReaderStream::with_capacity(tokio::fs::File::from_std(file), CHUNK);
            (size, bytes.map_err(|error| Error::Unreachable(error.to_string())).boxed())
        }))
    }

    async fn open_upload(&self, key: &str, size: u64, valid: Duration) -> Result<UploadTarget, Error> {
        check_key(key)?;
        let expires = now_seconds() + valid.as_secs();
        let mut ticket = Ticket {
            action: Action::Put,
            key: key.to_owned(),
            expires,
            size,
            upload: String::new(),
            part: 0,
            offset: 0,
        };
        let part_size = part_size(size);
        if size <= part_size {
            let urls = vec![self.0.address(&ticket)];
            return Ok(UploadTarget { upload_id: None, part_size: size, urls });
        }
        let (this, owned) = (self.clone(), key.to_owned());
        let (id, parts) = blocking(move || this.0.open_multipart(&owned, size)).await.map_err(io_error)?;
        ticket.action = Action::PutPart;
        ticket.upload.clone_from(&id);
        let urls = (1..=parts)
            .map(|part| {
                ticket.part = part;
                ticket.offset = u64::from(part - 1) * part_size;
                ticket.size = part_size.min(size - ticket.offset);
                self.0.address(&ticket)
            })
            .collect();
        Ok(UploadTarget { upload_id: Some(id), part_size, urls })
    }

    async fn complete_upload(&self, key: &str, upload_id: &str, etags: &[String]) -> Result<(), Error> {
        let (this, key, id, etags) = (self.clone(), key.to_owned(), upload_id.to_owned(), etags.to_vec());
        run(move || this.0.complete(&key, &id, &etags)).await
    }

    async fn abort_upload(&self, _key: &str, upload_id: &str) -> Result<(), Error> {
        let Some(folder) = self.0.upload(upload_id) else { return Ok(()) };
        blocking(move || fs::remove_dir_all(folder)).await.or_else(gone_is_fine).map_err(io_error)
    }

    async fn get_url(&self, key: &str, valid: Duration) -> Result<String, Error> {
        check_key(key)?;
        Ok(self.0.address(&Ticket {
            action: Action::Get,
            key: key.to_owned(),
            expires: now_seconds() + valid.as_secs(),
            size: 0,
            upload: String::new(),
            part: 0,
            offset: 0,
        }))
    }

    async fn size(&self, key: &str) -> Result<Option<u64>, Error> {
        Ok(self.read(key).await.map_err(io_error)?.map(|(_, size)| size))
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), Error> {
        check_key(key)?;
        let (temporary, target) = (self.0.temporary.join(random_name()), self.0.object(key));
        blocking(move || writer::write_small(&temporary, &target, &[bytes])).await.map_err(io_error)
    }

    async fn delete(&self, keys: &[String]) -> Result<(), Error> {
        let paths: Vec<_> = keys.iter().map(|key| self.0.object(key)).collect();
        blocking(move || paths.iter().try_for_each(|path| fs::remove_file(path).or_else(gone_is_fine)))
            .await
            .map_err(io_error)
    }

    async fn health(&self) -> Result<String, Error> {
        let this = self.clone();
        blocking(move || {
            let probe = this.0.temporary.join(random_name());
            fs::write(&probe, b"probe")?;
            fs::remove_file(probe)?;
            Ok(format!("directory {}", this.0.objects.display()))
        })
        .await
        .map_err(|error| Error::Unreachable(format!("{}: {error}", self.0.objects.display())))
    }
}

async fn write_whole<S, E>(
    temporary: &Path,
    target: &Path,
    ticket: &Ticket,
    body: S,
) -> Result<(), WriteError>
where
    S: Stream<Item = Result<Bytes, E>> + Send + Unpin,
    E: std::fmt::Display,
{
    let (temporary, target) = (temporary.to_owned(), target.to_owned());
    let expected = digest_of_key(&ticket.key);
    if ticket.size <= writer::SMALL {
        let chunks = writer::collect(ticket.size, body).await?;
        writer::check_digest(expected, || writer::digest(&chunks))?;
        return Ok(blocking(move || writer::write_small(&temporary, &target, &chunks)).await?);
    }
    let path = temporary.clone();
    let file = blocking(move || fs::File::create_new(path)).await?;
    let sink = writer::copy(Sink::new(file, 0, expected.is_some()), ticket.size, body).await?;
    writer::check_digest(expected, || sink.digest())?;
    Ok(blocking(move || writer::publish(&temporary, &target)).await?)
}

/// Only keys that the controller makes: they stand in addresses as they are.
fn check_key(key: &str) -> Result<(), Error> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'_' | b'.');
    if key.is_empty() || !key.bytes().all(plain) {
        return Err(Error::Refused(format!("`{key}` cannot be an object's key")));
    }
    Ok(())
}

/// The signing key, kept beside the objects so that addresses outlive a restart.
fn secret(root: &Path) -> io::Result<Vec<u8>> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    fs::create_dir_all(root)?;
    let path = root.join("signing.key");
    match fs::read(&path) {
        Ok(secret) if secret.len() >= 32 => return Ok(secret),
        Ok(_) => fs::remove_file(&path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let secret: [u8; 32] = rand::random();
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(&secret)?;
    file.sync_all()?;
    Ok(secret.to_vec())
}

pub(super) fn random_name() -> String {
    hex::encode(rand::random::<[u8; 16]>())
}

fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

pub(super) fn gone_is_fine(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

#[expect(clippy::needless_pass_by_value, reason = "used as a function")]
pub(super) fn io_error(error: io::Error) -> Error {
    Error::Unreachable(error.to_string())
}

async fn remove_quietly(path: &Path) {
    let path = path.to_owned();
    if let Err(error) = blocking(move || fs::remove_file(path).or_else(gone_is_fine)).await {
        tracing::warn!(%error, "a temporary file stays behind until the next start");
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

async fn run<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Unreachable(error.to_string()))?
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
