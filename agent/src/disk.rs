//! How many bytes folders take on disk. The content is hostile: nothing is followed out of a folder, memory and
//! open files stay bounded however wide or deep it is. Files that are deleted and still open are not seen.

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{self, AtFlags, CWD, Dir, FileType, Mode, OFlags, StatxFlags},
    io::Errno,
};
use std::{
    collections::VecDeque,
    ffi::{CStr, CString},
    path::{Path, PathBuf},
};

/// Folders open at one time. Those further up are opened again from below, when it is their turn.
const OPEN: usize = 48;
/// Levels, far beyond what a path can name and an honest program makes.
const DEEPEST: usize = 100_000;
/// Walks of a tree whose folders are moved about meanwhile.
const TRIES: usize = 3;
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Why there is no sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("its folders cannot be measured, they lie in one another more than {DEEPEST} deep")]
    TooDeep,
    #[error("its folders cannot be measured, deep ones are moved about all the time")]
    Moving,
    #[error("its folders cannot be measured now: {0}")]
    Io(#[from] Errno),
}

impl Error {
    /// The container's own doing: whoever cannot be measured has no limit.
    pub(crate) const fn is_evasion(self) -> bool {
        matches!(self, Self::TooDeep | Self::Moving)
    }
}

/// Blocks: call it off the async threads.
pub(crate) fn bytes(folders: &[PathBuf]) -> Result<u64, Error> {
    folders.iter().try_fold(0_u64, |sum, folder| Ok(sum.saturating_add(tree(folder)?)))
}

fn tree(root: &Path) -> Result<u64, Error> {
    let mut tries = 1;
    loop {
        match walk(root) {
            Err(Error::Moving) if tries < TRIES => tries += 1,
            done => return done,
        }
    }
}

fn walk(root: &Path) -> Result<u64, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Some(root) = there(fs::openat(CWD, root, flags, Mode::empty()))? else { return Ok(0) };
    let mut walk = Walk::default();
    let mut sum = 0_u64;
    walk.push(root)?;
    while let Some((folder, name)) = walk.next()? {
        let Some((bytes, is_folder)) = there(look(folder, &name))? else { continue };
        sum = sum.saturating_add(bytes);
        if is_folder && let Some(below) = there(fs::openat(folder, &*name, FOLDER, Mode::empty()))? {
            walk.push(below)?;
        }
    }
    Ok(sum)
}

/// What an answer says of one that may be gone by now, be something else by now, or never was ours to read.
fn there<T>(answer: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match answer {
        Ok(there) => Ok(Some(there)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS | Errno::PERM) => Ok(None),
        Err(error) => Err(error),
    }
}

/// One entry's bytes on disk, and whether it is a folder.
fn look(folder: impl AsFd, name: &CStr) -> Result<(u64, bool), Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let stat = fs::statx(folder, name, flags, StatxFlags::TYPE | StatxFlags::BLOCKS | StatxFlags::NLINK)?;
    let is_folder = FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory;
    let blocks = stat.stx_blocks.saturating_mul(512);
    // A file with several names is met once per name.
    Ok((if is_folder { blocks } else { blocks / u64::from(stat.stx_nlink.max(1)) }, is_folder))
}

/// A walk, depth first, without a path: paths end at 4096 bytes, trees do not.
#[derive(Default)]
struct Walk {
    /// From the root down.
    closed: Vec<Closed>,
    /// Below those.
    open: VecDeque<Open>,
}

struct Open {
    dir: Dir,
    /// Where reading goes on.
    cookie: i64,
}

/// A folder that is read on once everything below it is done.
struct Closed {
    cookie: i64,
    id: Id,
}

/// Device and inode: which folder it is, wherever it lies.
type Id = (u64, u64);

fn id(folder: impl AsFd) -> Result<Id, Errno> {
    fs::fstat(folder).map(|stat| (stat.st_dev, stat.st_ino))
}

impl Walk {
    fn push(&mut self, folder: OwnedFd) -> Result<(), Error> {
        self.open.push_back(Open { dir: Dir::new(folder)?, cookie: 0 });
        if self.open.len() > OPEN
            && let Some(Open { dir, cookie }) = self.open.pop_front()
        {
            self.closed.push(Closed { cookie, id: id(dir.fd()?)? });
        }
        if self.closed.len() > DEEPEST { Err(Error::TooDeep) } else { Ok(()) }
    }

    /// The next entry, with its folder.
    fn next(&mut self) -> Result<Option<(BorrowedFd<'_>, CString)>, Error> {
        while let Some(Open { dir, cookie }) = self.open.back_mut() {
            match dir.read() {
                Some(entry) => {
                    let entry = entry?;
                    *cookie = entry.offset();
                    if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                        let name = entry.file_name().to_owned();
                        let last = self.open.back().expect("it was just read");
                        return Ok(Some((last.dir.fd()?, name)));
                    }
                }
                None => self.pop()?,
            }
        }
        Ok(None)
    }

    /// Goes up from a folder that is done.
    fn pop(&mut self) -> Result<(), Error> {
        let Some(done) = self.open.pop_back() else { return Ok(()) };
        if !self.open.is_empty() {
            return Ok(());
        }
        let Some(Closed { cookie, id: known }) = self.closed.pop() else { return Ok(()) };
        // It was moved if this is another: what else is in its old place was not counted.
        let above = fs::openat(done.dir.fd()?, c"..", FOLDER, Mode::empty())?;
        if id(&above)? != known {
            return Err(Error::Moving);
        }
        let mut dir = Dir::new(above)?;
        dir.seek(cookie)?;
        self.open.push_back(Open { dir, cookie });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;
    use std::{fs, os::unix::fs::symlink};

    fn folder_with(bytes: usize) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("a"), vec![1; bytes]).expect("written");
        folder
    }

    #[test]
    fn blocks_are_counted_and_holes_are_not() {
        let folder = folder_with(1 << 20);
        let hole = fs::File::create(folder.path().join("hole")).expect("made");
        hole.set_len(1 << 40).expect("sparse");
        let counted = bytes(&[folder.path().to_owned()]).expect("measured");
        assert!((1 << 20..2 << 20).contains(&counted), "{counted}");
    }

    #[test]
    fn no_link_leads_out_and_a_second_name_counts_once() {
        let (elsewhere, folder) = (folder_with(8 << 20), folder_with(1 << 20));
        symlink(elsewhere.path(), folder.path().join("out")).expect("linked");
        fs::hard_link(folder.path().join("a"), folder.path().join("b")).expect("linked");
        let counted = bytes(&[folder.path().to_owned()]).expect("measured");
        assert!((1 << 20..2 << 20).contains(&counted), "{counted}");
    }

    #[test]
    fn a_tree_deeper_than_open_folders_is_counted_to_its_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let deep = (0..3 * OPEN).fold(folder.path().to_owned(), |path, _| path.join("d"));
        fs::create_dir_all(&deep).expect("made");
        fs::write(deep.join("a"), vec![1; 1 << 20]).expect("written");
        let counted = bytes(&[folder.path().to_owned()]).expect("measured");
        assert!((1 << 20..3 << 20).contains(&counted), "{counted}");
    }

    #[test]
    fn a_file_below_what_a_path_can_name_does_not_escape_its_limit() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("out");
        fs::create_dir(&root).expect("made");
        let inner = tree::tests::nest(&root, 20_000);
        let flags = OFlags::CREATE | OFlags::WRONLY;
        let file = super::fs::openat(&inner, "a", flags, Mode::RWXU).expect("made");
        std::io::Write::write_all(&mut fs::File::from(file), &vec![1; 8 << 20]).expect("written");
        // Met after the way back up.
        for n in 0..8 {
            fs::write(root.join(n.to_string()), vec![1; 1 << 20]).expect("written");
        }
        let counted = bytes(std::slice::from_ref(&root));
        tree::remove(&root).expect("removed");
        assert!(counted.is_ok_and(|counted| (16 << 20..120 << 20).contains(&counted)), "{counted:?}");
    }

    #[test]
    fn a_tree_too_deep_to_measure_is_no_way_out_of_a_limit() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut walk = Walk::default();
        walk.closed.resize_with(DEEPEST, || Closed { cookie: 0, id: (0, 0) });
        let mut push = || {
            let below = super::fs::openat(CWD, folder.path(), FOLDER, Mode::empty()).expect("opened");
            walk.push(below)
        };
        assert!((0..OPEN).all(|_| push().is_ok()));
        let refused = push();
        assert_eq!(refused, Err(Error::TooDeep));
        assert!(refused.is_err_and(Error::is_evasion) && !Error::Io(Errno::MFILE).is_evasion());
    }

    #[test]
    fn a_folder_that_was_moved_away_is_not_left_through_its_new_parent() {
        let folder = tempfile::tempdir().expect("a folder");
        let (root, elsewhere) = (folder.path().join("out"), folder.path().join("elsewhere"));
        fs::create_dir(&root).expect("made");
        fs::create_dir(&elsewhere).expect("made");
        drop(tree::tests::nest(&root, OPEN + 1));
        let mut walk = Walk::default();
        walk.push(super::fs::openat(CWD, &root, FOLDER, Mode::empty()).expect("opened")).expect("pushed");
        while let Some((above, name)) = walk.next().expect("read") {
            let below = super::fs::openat(above, &*name, FOLDER, Mode::empty()).expect("opened");
            walk.push(below).expect("pushed");
            if walk.closed.len() == 2 {
                fs::rename(root.join("d/d"), elsewhere.join("d")).expect("moved");
                break;
            }
        }
        assert_eq!(walk.next().map(|_| ()), Err(Error::Moving));
    }

    #[test]
    fn a_folder_that_is_gone_counts_nothing() {
        assert_eq!(bytes(&[PathBuf::from("/nowhere/at/all")]), Ok(0));
    }
}
