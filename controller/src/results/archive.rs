//! All files of an attempt as one tar archive below `out/`, made while it is read: one file and one page of names at a
//! time. A store that fails, and a job that is removed meanwhile, cut the archive, and whoever reads it sees that it is cut.

use super::FILES;
use crate::{
    blobs::{self, Blobs},
    jobs::{AttemptView, Jobs, StoredArtifact},
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use longshore_common::artifact::Artifact;
use std::{collections::VecDeque, ffi::OsStr, io, os::unix::ffi::OsStrExt as _, path::Path, sync::Arc};
use tar::{Builder, EntryType, Header};

const PAGE: u32 = 500;
const BLOCK: usize = 512;

struct Reader {
    jobs: Jobs,
    blobs: Arc<dyn Blobs>,
    attempt: AttemptView,
    left: VecDeque<StoredArtifact>,
    /// `None`: all pages were read.
    next: Option<String>,
    /// Of the attempt's.
    files: u64,
    bytes: u64,
    ended: bool,
}

pub(crate) fn archive(
    jobs: &Jobs,
    blobs: &Arc<dyn Blobs>,
    attempt: AttemptView,
) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
    let reader = Reader {
        jobs: jobs.clone(),
        blobs: Arc::clone(blobs),
        attempt,
        left: VecDeque::new(),
        next: Some(String::new()),
        files: 0,
        bytes: 0,
        ended: false,
    };
    stream::try_unfold(reader, |mut reader| async move {
        let entry = reader.entry().await?;
        Ok::<_, io::Error>(entry.map(|entry| (entry, reader)))
    })
    .try_flatten()
}

type Piece = futures::stream::BoxStream<'static, io::Result<Bytes>>;

impl Reader {
    /// The next file, or what ends an archive.
    async fn entry(&mut self) -> io::Result<Option<Piece>> {
        while self.left.is_empty() {
            let Some(token) = self.next.take() else {
                self.check_whole()?;
                let end = Bytes::from_static(&[0; 2 * BLOCK]);
                let first = !std::mem::replace(&mut self.ended, true);
                return Ok(first.then(|| stream::once(async { Ok(end) }).boxed()));
            };
            let page =
                self.jobs.artifacts(&self.attempt, b"", PAGE, &token).await.map_err(io::Error::other)?;
            (self.left, self.next) = (page.items.into(), page.next);
        }
        let Some(StoredArtifact { entry, key }) = self.left.pop_front() else { return Ok(None) };
        let artifact = entry.artifact;
        (self.files, self.bytes) = (self.files + 1, self.bytes + artifact.size);
        let head = head(&artifact)?;
        let body = whole(&*self.blobs, &key, artifact.size).await?;
        let padding = (BLOCK - usize::try_from(artifact.size % BLOCK as u64).unwrap_or(0)) % BLOCK;
        let tail = stream::once(async move { Ok(Bytes::from(vec![0; padding])) });
        Ok(Some(stream::once(async { Ok(head) }).chain(body).chain(tail).boxed()))
    }

    /// A job that was removed meanwhile lists nothing more: its archive must not end like a whole one.
    fn check_whole(&self) -> io::Result<()> {
        let AttemptView { artifact_count: files, artifact_bytes: bytes, .. } = self.attempt;
        if (self.files, self.bytes) == (files, bytes) {
            return Ok(());
        }
        let read = format!("{} of {files} files and {} of {bytes} bytes", self.files, self.bytes);
        Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("only {read} were there: the job was removed"),
        ))
    }
}

/// An object's bytes, exactly as many as its manifest says.
pub(crate) async fn whole(blobs: &dyn Blobs, key: &str, size: u64) -> io::Result<Piece> {
    let gone = || io::Error::new(io::ErrorKind::NotFound, "a file is not in the store any more");
    let (stored, bytes) = blobs.content(key).await.map_err(io::Error::other)?.ok_or_else(gone)?;
    if stored != size {
        return Err(io::Error::other(format!(
            "a file has {stored} bytes in the store and {size} in its manifest"
        )));
    }
    let counted = bytes.map_err(|error: blobs::Error| io::Error::other(error));
    let counted = stream::try_unfold((counted, size), |(mut bytes, left)| async move {
        match bytes.next().await.transpose()? {
            Some(chunk) => match left.checked_sub(chunk.len() as u64) {
                Some(left) => Ok(Some((chunk, (bytes, left)))),
                None => Err(io::Error::other("a file is longer than its manifest says")),
            },
            None if left > 0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file ends too soon")),
            None => Ok(None),
        }
    });
    Ok(counted.boxed())
}

/// What stands before a file's bytes. Names of any length and of any bytes go in as they are.
fn head(artifact: &Artifact) -> io::Result<Bytes> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_size(artifact.size);
    // No file of an archive runs as somebody else.
    header.set_mode(artifact.mode & 0o777);
    let modified = artifact.modified_at.map_or(0, |at| at.as_micros() / 1_000_000);
    header.set_mtime(u64::try_from(modified).unwrap_or(0));
    let name = [FILES.as_bytes(), &artifact.path].concat();
    let mut builder = Builder::new(Vec::new());
    builder.append_data(&mut header, Path::new(OsStr::from_bytes(&name)), io::empty())?;
    // Without the end that the builder would write.
    Ok(std::mem::take(builder.get_mut()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(path: &[u8], size: u64) -> Artifact {
        Artifact { path: path.to_vec(), size, sha256: [0; 32], mode: 0o104755, modified_at: None }
    }

    #[test]
    fn long_names_and_names_that_are_no_text_survive() {
        let long = [&[b'x'; 90][..], b"/", &[b'y'; 200]].concat();
        let mut all = Vec::new();
        for (path, body) in [(&b"a/\xff\xfe"[..], &b"abc"[..]), (&long, b""), ("ü/🚀".as_bytes(), b"z")] {
            let head = head(&artifact(path, body.len() as u64)).expect("a head");
            assert_eq!(head.len() % BLOCK, 0);
            all.extend_from_slice(&head);
            all.extend_from_slice(body);
            all.resize(all.len().next_multiple_of(BLOCK), 0);
        }
        all.extend([0; 2 * BLOCK]);
        let mut archive = tar::Archive::new(&all[..]);
        let read: Vec<_> = archive
            .entries()
            .expect("an archive")
            .map(|entry| {
                let entry = entry.expect("an entry");
                (entry.path_bytes().into_owned(), entry.size(), entry.header().mode().expect("a mode"))
            })
            .collect();
        let long = [b"out/", &long[..]].concat();
        let wanted = [(b"out/a/\xff\xfe".to_vec(), 3), (long, 0), ("out/ü/🚀".as_bytes().to_vec(), 1)];
        assert_eq!(read, wanted.map(|(path, size)| (path, size, 0o755)));
    }
}
