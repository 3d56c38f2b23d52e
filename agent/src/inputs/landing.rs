//! One file on its way to disk: gathered in pieces, hashed, written off the async threads. Never writes outside its
//! folder; whoever calls has checked the name.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use std::{
    fs::{DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// Gathered before it is written: small files cost one trip to the disk.
const GATHERED: usize = 256 << 10;

#[derive(Debug)]
pub(super) struct Landing {
    folder: PathBuf,
    path: PathBuf,
    mode: u32,
    file: Option<File>,
    sha: Sha256,
    pieces: Vec<Bytes>,
    gathered: usize,
    written: u64,
}

impl Landing {
    /// `path` lies in `folder`, which exists and is nobody else's.
    pub(super) fn new(folder: &Path, path: PathBuf, mode: u32) -> Self {
        Self {
            folder: folder.to_owned(),
            path,
            mode: readable(mode),
            file: None,
            sha: Sha256::new(),
            pieces: Vec::new(),
            gathered: 0,
            written: 0,
        }
    }

    /// Bytes taken so far.
    pub(super) const fn length(&self) -> u64 {
        self.written + self.gathered as u64
    }

    pub(super) async fn take(&mut self, piece: Bytes) -> io::Result<()> {
        self.gathered += piece.len();
        self.pieces.push(piece);
        if self.gathered >= GATHERED { self.write(false).await } else { Ok(()) }
    }

    /// Forgets what came: the source starts over.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        self.sha = Sha256::new();
        self.pieces.clear();
        self.gathered = 0;
        self.written = 0;
        if let Some(file) = &mut self.file {
            file.set_len(0)?;
            io::Seek::rewind(file)?;
        }
        Ok(())
    }

    /// Writes the rest and gives the digest of all of it.
    pub(super) async fn finish(&mut self) -> io::Result<[u8; 32]> {
        self.write(true).await?;
        Ok(std::mem::take(&mut self.sha).finalize().into())
    }

    async fn write(&mut self, last: bool) -> io::Result<()> {
        let pieces = std::mem::take(&mut self.pieces);
        let (folder, path, mode) = (self.folder.clone(), self.path.clone(), self.mode);
        let (file, mut sha) = (self.file.take(), std::mem::take(&mut self.sha));
        let work = move || -> io::Result<(File, Sha256)> {
            let mut file = match file {
                Some(file) => file,
                None => create(&folder, &path, mode)?,
            };
            for piece in pieces {
                sha.update(&piece);
                file.write_all(&piece)?;
            }
            Ok((file, sha))
        };
        let (file, sha) = tokio::task::spawn_blocking(work).await.map_err(io::Error::other)??;
        // A million files are not held open.
        self.file = (!last).then_some(file);
        self.sha = sha;
        self.written += self.gathered as u64;
        self.gathered = 0;
        Ok(())
    }
}

/// A new file; one that is there means that the list names it twice.
fn create(folder: &Path, path: &Path, mode: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode).custom_flags(libc::O_NOFOLLOW);
    let file = match options.open(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            make_parents(folder, path)?;
            options.open(path)?
        }
        other => other?,
    };
    // The process's mask may have taken bits away.
    file.set_permissions(Permissions::from_mode(mode))?;
    Ok(file)
}

fn make_parents(folder: &Path, path: &Path) -> io::Result<()> {
    let missing: Vec<_> = path.ancestors().skip(1).take_while(|parent| *parent != folder).collect();
    missing.into_iter().rev().try_for_each(make_folder)
}

/// A folder that any user of the image can read. One that is there is fine.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o755).create(path) {
        Ok(()) => std::fs::set_permissions(path, Permissions::from_mode(0o755)),
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(err) => Err(err),
    }
}

/// Any user of the image may read it, nobody but root writes it, and what was a program stays one.
const fn readable(mode: u32) -> u32 {
    if mode & 0o111 == 0 { 0o644 } else { 0o755 }
}
