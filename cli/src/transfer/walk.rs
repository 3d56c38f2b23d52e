//! The files of a local folder, as an input is made of them.

use std::{
    collections::HashSet,
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::{Path, PathBuf},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LocalFile {
    pub(super) path: PathBuf,
    /// Below the folder, as the container will see it.
    pub(super) name: Vec<u8>,
    pub(super) size: u64,
    pub(super) mode: u32,
}

#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) files: Vec<LocalFile>,
    /// What is neither file nor folder: a device, a socket, a link that leads nowhere.
    pub(super) skipped: Vec<PathBuf>,
}

/// All files below a folder, in the order of their names; a single file is a folder of one. Links are followed, for
/// they are the person's own; a folder is entered once.
pub(super) fn walk(root: &Path) -> Result<Found, (PathBuf, io::Error)> {
    let mut found = Found::default();
    let metadata = fs::metadata(root).map_err(|error| (root.to_owned(), error))?;
    if metadata.is_dir() {
        folder(root, &mut Vec::new(), &mut HashSet::new(), &mut found)?;
    } else {
        let name = root.file_name().unwrap_or(root.as_os_str()).as_bytes().to_vec();
        add(root.to_owned(), name, &metadata, &mut found);
    }
    found.files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn folder(
    path: &Path,
    prefix: &mut Vec<u8>,
    entered: &mut HashSet<PathBuf>,
    found: &mut Found,
) -> Result<(), (PathBuf, io::Error)> {
    let at = |error| (path.to_owned(), error);
    if !entered.insert(path.canonicalize().map_err(at)?) {
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(at)? {
        let entry = entry.map_err(at)?;
        let path = entry.path();
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            // A link that leads nowhere.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                found.skipped.push(path);
                continue;
            }
            Err(error) => return Err((path, error)),
        };
        let length = prefix.len();
        prefix.extend_from_slice(entry.file_name().as_bytes());
        if metadata.is_dir() {
            prefix.push(b'/');
            folder(&path, prefix, entered, found)?;
        } else {
            add(path, prefix.clone(), &metadata, found);
        }
        prefix.truncate(length);
    }
    Ok(())
}

fn add(path: PathBuf, name: Vec<u8>, metadata: &fs::Metadata, found: &mut Found) {
    if metadata.is_file() {
        let mode = metadata.permissions().mode() & 0o777;
        found.files.push(LocalFile { path, name, size: metadata.len(), mode });
    } else {
        found.skipped.push(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn files_links_and_odd_things() {
        let root = tempfile::tempdir().expect("a folder");
        let at = |name: &str| root.path().join(name);
        fs::create_dir(at("sub")).expect("made");
        fs::write(at("sub/b"), "bb").expect("written");
        fs::write(at("a"), "a").expect("written");
        symlink("a", at("link")).expect("linked");
        symlink("..", at("sub/loop")).expect("linked");
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).expect("bound");
        let found = walk(root.path()).expect("readable");
        let names: Vec<_> = found.files.iter().map(|file| String::from_utf8_lossy(&file.name)).collect();
        assert_eq!(names, ["a", "link", "sub/b"]);
        assert_eq!(found.files[2].size, 2);
        assert_eq!(found.skipped, [at("socket")]);
    }

    #[test]
    fn a_single_file_is_a_folder_of_one() {
        let root = tempfile::tempdir().expect("a folder");
        fs::write(root.path().join("x.txt"), "x").expect("written");
        let found = walk(&root.path().join("x.txt")).expect("readable");
        assert_eq!(found.files[0].name, b"x.txt");
        assert!(walk(&root.path().join("missing")).is_err());
    }
}
