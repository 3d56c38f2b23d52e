//! How many bytes folders take on disk. The content is hostile: nothing is followed out of a folder, memory and
//! open files stay bounded however wide or deep it is. Files that are deleted and still open are not seen.

use rustix::{
    fs::{self, AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, StatxFlags},
    io::Errno,
};
use std::{
    ffi::{CStr, CString},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

/// Folders open at one time.
const OPEN: usize = 48;
/// Deeper folders put off until the open ones are done. More of them is no honest tree.
const PUT_OFF: usize = 10_000;
/// What a tree counts that cannot be measured within these bounds: it passes every limit.
const UNMEASURABLE: u64 = u64::MAX;

/// Blocks: call it off the async threads.
pub(super) fn bytes(folders: &[PathBuf]) -> u64 {
    folders.iter().fold(0, |sum, folder| sum.saturating_add(tree(folder)))
}

fn tree(root: &Path) -> u64 {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // Gone with its container.
    let Ok(root) = fs::openat(CWD, root, flags, Mode::empty()) else { return 0 };
    let mut walk = Walk { sum: 0, put_off: vec![CString::default()] };
    while let Some(path) = walk.put_off.pop() {
        if let Some(folder) = open_beneath(&root, &path) {
            walk.descend(folder, path);
        }
        if walk.put_off.len() > PUT_OFF {
            return UNMEASURABLE;
        }
    }
    walk.sum
}

struct Walk {
    sum: u64,
    /// Paths relative to the root.
    put_off: Vec<CString>,
}

impl Walk {
    /// Adds everything below `folder`, depth first.
    fn descend(&mut self, folder: Dir, path: CString) {
        let mut open = vec![(folder, path)];
        while let Some((folder, path)) = open.last_mut() {
            let Some(entry) = folder.next() else {
                open.pop();
                continue;
            };
            let Ok(entry) = entry else { continue };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Some(is_folder) = folder.fd().ok().and_then(|fd| self.add(fd, name)) else { continue };
            if !is_folder {
                continue;
            }
            let below = join(path, name);
            if open.len() >= OPEN {
                if self.put_off.len() <= PUT_OFF {
                    self.put_off.push(below);
                }
            } else if let Some(next) = open.last().and_then(|(dir, _)| open_in(dir, name)) {
                open.push((next, below));
            }
        }
    }

    /// Adds one entry's blocks; says whether it is a folder.
    fn add(&mut self, folder: impl rustix::fd::AsFd, name: &CStr) -> Option<bool> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let wanted = StatxFlags::TYPE | StatxFlags::BLOCKS | StatxFlags::NLINK;
        let stat = fs::statx(folder, name, flags, wanted).ok()?;
        let is_folder = FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory;
        let blocks = stat.stx_blocks.saturating_mul(512);
        // A file with several names is met once per name.
        let share = if is_folder { blocks } else { blocks / u64::from(stat.stx_nlink.max(1)) };
        self.sum = self.sum.saturating_add(share);
        Some(is_folder)
    }
}

fn join(folder: &CStr, name: &CStr) -> CString {
    let mut path = folder.to_bytes().to_vec();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name.to_bytes());
    CString::new(path).expect("made of two that hold no NUL")
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn open_in(folder: &Dir, name: &CStr) -> Option<Dir> {
    let fd = fs::openat(folder.fd().ok()?, name, FOLDER, Mode::empty()).ok()?;
    Dir::new(fd).ok()
}

/// Opens a path of several segments without ever leaving `root`.
fn open_beneath(root: &OwnedFd, path: &CStr) -> Option<Dir> {
    let path = if path.is_empty() { c"." } else { path };
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    match fs::openat2(root, path, FOLDER, Mode::empty(), beneath) {
        Ok(fd) => Dir::new(fd).ok(),
        // Removed meanwhile.
        Err(Errno::NOENT) => None,
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let counted = bytes(&[folder.path().to_owned()]);
        assert!((1 << 20..2 << 20).contains(&counted), "{counted}");
    }

    #[test]
    fn no_link_leads_out_and_a_second_name_counts_once() {
        let (elsewhere, folder) = (folder_with(8 << 20), folder_with(1 << 20));
        symlink(elsewhere.path(), folder.path().join("out")).expect("linked");
        fs::hard_link(folder.path().join("a"), folder.path().join("b")).expect("linked");
        let counted = bytes(&[folder.path().to_owned()]);
        assert!((1 << 20..2 << 20).contains(&counted), "{counted}");
    }

    #[test]
    fn a_tree_deeper_than_open_folders_is_counted_to_its_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let deep = (0..3 * OPEN).fold(folder.path().to_owned(), |path, _| path.join("d"));
        fs::create_dir_all(&deep).expect("made");
        fs::write(deep.join("a"), vec![1; 1 << 20]).expect("written");
        let counted = bytes(&[folder.path().to_owned()]);
        assert!((1 << 20..3 << 20).contains(&counted), "{counted}");
    }

    #[test]
    fn a_folder_that_is_gone_counts_nothing() {
        assert_eq!(bytes(&[PathBuf::from("/nowhere/at/all")]), 0);
    }
}
