//! Where a downloaded file goes: always inside the folder that was asked for. Names come from containers.

use longshore_common::artifact::is_contained;
use std::{
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

/// The file's place below `root`, its folders made. Refused: names that leave the folder, and folders on the way that
/// are links, whoever made them.
pub(super) fn place(root: &Path, name: &[u8]) -> io::Result<PathBuf> {
    let refuse = |why: &str| {
        let shown = String::from_utf8_lossy(name);
        Err(io::Error::new(io::ErrorKind::InvalidInput, format!("`{shown}` {why}; it is not written")))
    };
    if !is_contained(name) {
        return refuse("does not stay inside its folder");
    }
    let mut path = root.to_owned();
    let mut parts = name.split(|b| *b == b'/').peekable();
    while let Some(part) = parts.next() {
        path.push(OsStr::from_bytes(part));
        let is_last = parts.peek().is_none();
        match fs::symlink_metadata(&path) {
            Ok(found) if is_last && found.is_dir() => return refuse("is a folder here"),
            Ok(_) if is_last => {}
            Ok(found) if found.is_dir() => {}
            Ok(_) => return refuse("would pass through a link or a file"),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_last => make(&path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(path)
}

/// Another file of the same folder may have made it a moment ago.
fn make(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_land_below_the_folder() {
        let root = tempfile::tempdir().expect("a folder");
        let path = place(root.path(), b"a/b/c.txt").expect("inside");
        assert_eq!(path, root.path().join("a/b/c.txt"));
        assert!(root.path().join("a/b").is_dir());
        assert!(place(root.path(), b"a/\xff").is_ok(), "names need not be text");
    }

    #[test]
    fn nothing_is_written_outside() {
        let root = tempfile::tempdir().expect("a folder");
        let elsewhere = tempfile::tempdir().expect("a folder");
        std::os::unix::fs::symlink(elsewhere.path(), root.path().join("link")).expect("linked");
        fs::write(root.path().join("file"), "x").expect("written");
        fs::create_dir(root.path().join("folder")).expect("made");
        for bad in [&b"../x"[..], b"/etc/x", b"a/../../x", b"link/x", b"file/x", b"folder", b"", b"a\0b"] {
            assert!(place(root.path(), bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        assert_eq!(fs::read_dir(elsewhere.path()).expect("readable").count(), 0);
    }
}
