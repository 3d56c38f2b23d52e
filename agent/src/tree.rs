//! Removes trees that somebody else filled: of any depth and width, with few open folders and little memory, never
//! through a link. Decides nothing about what may be removed; whoever wrote into the tree has ended.

use rustix::{
    fd::AsFd,
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, renameat, rmdir, unlink, unlinkat},
    io::{self, Errno},
};
use std::{ffi::CString, path::Path};

/// Folders open at one time. One that lies deeper is first moved up to the top.
const OPEN: usize = 32;
/// Passes that move nothing up and still leave something: somebody writes into the tree.
const IDLE: usize = 16;
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes `root` and all of it. What is gone is fine. Blocks: call it off the async threads.
pub(crate) fn remove(root: &Path) -> std::io::Result<()> {
    let mut moved = 0;
    let mut idle = 0;
    loop {
        match rmdir(root) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // A file or a link.
            Err(Errno::NOTDIR) => return Ok(unlink(root)?),
            Err(error) if !is_full(error) || idle == IDLE => return Err(error.into()),
            Err(_) => {}
        }
        let before = moved;
        match openat(CWD, root, FOLDER, Mode::empty()) {
            Ok(top) => empty(&top, &mut moved)?,
            // Another call is removing it too.
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        idle = if moved == before { idle + 1 } else { 0 };
    }
}

/// Removes what is in `top`. Folders that lie too deep are in `top` afterwards.
fn empty(top: &impl AsFd, moved: &mut u64) -> io::Result<()> {
    let mut stack = vec![(Dir::read_from(top)?, CString::default())];
    loop {
        let too_deep = stack.len() > OPEN;
        let Some((folder, name)) = stack.last_mut() else { return Ok(()) };
        let Some(entry) = folder.read() else {
            let name = std::mem::take(name);
            stack.pop();
            let Some((parent, _)) = stack.last() else { return Ok(()) };
            match unlinkat(parent.fd()?, &name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) if !is_full(error) => return Err(error),
                // A pass at the top sees it again.
                Err(_) if stack.len() == 1 => {}
                Err(_) => move_up(parent.fd()?, &name, top, moved)?,
            }
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if entry.file_type() != FileType::Directory {
            match unlinkat(folder.fd()?, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                // Not every filesystem tells the kind with the name.
                Err(Errno::ISDIR) => {}
                Err(error) => return Err(error),
            }
        }
        if too_deep {
            move_up(folder.fd()?, name, top, moved)?;
            continue;
        }
        match openat(folder.fd()?, name, FOLDER, Mode::empty()) {
            Ok(below) => stack.push((Dir::new(below)?, name.to_owned())),
            // Not a folder any more: a pass sees what it became.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Moves `name` into `top`, under a name that is free there.
fn move_up(from: impl AsFd, name: &std::ffi::CStr, top: &impl AsFd, moved: &mut u64) -> io::Result<()> {
    loop {
        *moved += 1;
        match renameat(&from, name, top, moved.to_string()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // The name is taken by a file, or by a folder that is not empty.
            Err(error) if error == Errno::NOTDIR || error == Errno::ISDIR || is_full(error) => {}
            Err(error) => return Err(error),
        }
    }
}

/// The two ways to say that a folder is not empty.
fn is_full(error: Errno) -> bool {
    matches!(error, Errno::NOTEMPTY | Errno::EXIST)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use rustix::fd::OwnedFd;
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    /// Makes this many folders in one another, as a program in a container can; gives the innermost.
    pub(crate) fn nest(root: &Path, levels: usize) -> OwnedFd {
        let mut folder = openat(CWD, root, FOLDER, Mode::empty()).expect("the root is there");
        for _ in 0..levels {
            rustix::fs::mkdirat(&folder, "d", Mode::RWXU).expect("made");
            folder = openat(&folder, "d", FOLDER, Mode::empty()).expect("opened");
        }
        folder
    }

    #[test]
    fn a_tree_deeper_than_any_path_is_removed() {
        let home = tempfile::tempdir().expect("a folder");
        let root = home.path().join("out");
        fs::create_dir(&root).expect("made");
        let inner = nest(&root, 20_000);
        // In the way of what is moved up.
        fs::write(root.join("1"), b"").expect("written");
        fs::create_dir_all(root.join("2/full")).expect("made");
        let file = openat(&inner, "last", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).expect("written");
        drop((inner, file));
        remove(&root).expect("removed");
        assert!(!root.exists());
        remove(&root).expect("what is gone is fine");
    }

    #[test]
    fn nothing_is_removed_through_a_link() {
        let (home, elsewhere) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("another"));
        let kept = elsewhere.path().join("kept");
        fs::write(&kept, b"").expect("written");
        let root = home.path().join("out");
        fs::create_dir_all(root.join("a/b")).expect("made");
        for link in ["link", "a/link", "a/b/link"] {
            symlink(elsewhere.path(), root.join(link)).expect("linked");
        }
        remove(&root).expect("removed");
        symlink(elsewhere.path(), &root).expect("linked");
        remove(&root).expect("the link itself goes");
        assert!(kept.exists() && fs::symlink_metadata(&root).is_err());
    }

    #[test]
    fn wide_folders_and_odd_modes_are_removed_whole() {
        let home = tempfile::tempdir().expect("a folder");
        let root = home.path().join("out");
        for n in 0..200 {
            let folder = root.join(format!("{}/{n}", n % 7));
            fs::create_dir_all(&folder).expect("made");
            fs::write(folder.join("file"), b"x").expect("written");
            fs::set_permissions(folder.join("file"), fs::Permissions::from_mode(0o000)).expect("set");
        }
        remove(&root).expect("removed");
        assert!(!root.exists());
    }
}
