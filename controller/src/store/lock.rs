//! One controller per database file: an exclusive lock on a file beside it, held as long as the process lives.

use super::Error;
use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

/// Released when dropped, also by SIGKILL. The file stays: removing it would let two processes lock two files.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(database: &Path) -> Result<Self, Error> {
        let path = lock_path(database);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| Error::file(&path, error))?;
        match fs4::FileExt::try_lock(&file) {
            Ok(()) => {}
            Err(fs4::TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // Only for the message: an unreadable pid must not hide that the file is in use.
                let read = file.read_to_string(&mut pid);
                let pid = if read.is_ok() { pid.trim().to_owned() } else { "unknown".to_owned() };
                return Err(Error::Locked { path: database.to_owned(), pid });
            }
            Err(fs4::TryLockError::Error(error)) => return Err(Error::file(&path, error)),
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(|error| Error::file(&path, error))?;
        Ok(Self { _file: file })
    }
}

fn lock_path(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}
