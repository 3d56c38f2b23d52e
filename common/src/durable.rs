//! Files that are there whole or as they were before: written beside, then put in place. Never decides what is in them.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

/// How what was not finished ends, in place of its own ending. Whoever dies meanwhile leaves it.
pub const UNFINISHED: &str = "new";

/// Replaces the file. It is on disk when this returns, under its name.
pub fn replace(path: &Path, data: &[u8]) -> io::Result<()> {
    put(path, data, &mut File::options())
}

/// As `replace`, for its owner alone: keys and what is as good as one.
pub fn replace_private(path: &Path, data: &[u8]) -> io::Result<()> {
    put(path, data, File::options().mode(0o600))
}

fn put(path: &Path, data: &[u8], options: &mut OpenOptions) -> io::Result<()> {
    let fresh = path.with_extension(UNFINISHED);
    let mut file = options.write(true).create(true).truncate(true).open(&fresh)?;
    file.write_all(data)?;
    file.sync_data()?;
    fs::rename(&fresh, path)?;
    match path.parent() {
        Some(folder) if folder.as_os_str() != OsStr::new("") => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// As `replace`, for what is worth nothing when the machine is started anew: nothing waits for the disk.
pub fn replace_for_now(path: &Path, data: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension(UNFINISHED);
    fs::write(&fresh, data)?;
    fs::rename(fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_fails_leaves_the_file_as_it_was() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a.json");
        for write in [replace, replace_private, replace_for_now] {
            write(&path, b"one").expect("written");
            write(&path, b"two").expect("replaced");
            assert_eq!(fs::read(&path).expect("there"), b"two");
            assert_eq!(fs::read_dir(dir.path()).expect("there").count(), 1, "nothing is beside it");
            // In its way.
            fs::create_dir(dir.path().join("a.new")).expect("made");
            write(&path, b"three").expect_err("it cannot be written");
            assert_eq!(fs::read(&path).expect("there"), b"two");
            fs::remove_dir(dir.path().join("a.new")).expect("removed");
        }
    }
}
