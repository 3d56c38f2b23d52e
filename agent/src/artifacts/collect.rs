//! Walks `/out` and lists what is to be stored. The folder is hostile: only regular files are listed, no link is
//! followed, and neither a million names nor a thousand levels cost memory. Blocks: runs off the async threads.

use super::{
    folder::{self, Folder},
    select::Selection,
};
use longshore_common::artifact::part_size;
use rustix::{
    fs::{AtFlags, Dir, FileType, statat},
    io,
};
use std::{ops::ControlFlow, os::fd::OwnedFd, time::Instant};

/// Files in one batch: what the controller signs in one call.
const MOST_FILES: usize = 200;
/// Addresses in one batch, so that large files do not make a large message.
const MOST_ADDRESSES: u64 = 2_000;
/// Folders held open at once, so that depth does not cost descriptors.
const MOST_OPEN: usize = 32;
/// Longer names than a kernel opens cannot be fetched back either.
const MOST_PATH: usize = 4_096;
/// Entries between two looks at the clock.
const LOOK_EVERY: u64 = 1_024;
/// Bytes of either end of a path in a message.
const MOST_SHOWN: usize = 120;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) path: Vec<u8>,
    pub(super) size: u64,
}

#[derive(Debug)]
pub(super) enum Item {
    File(Found),
    /// Not listed, and worth a word.
    Skipped(String),
}

/// How far a walk goes, whatever it meets: folders, links and what is left out cost time too.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    pub(super) entries: u64,
    pub(super) until: Instant,
}

/// How a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Walk {
    /// At the end, or where it was broken off.
    Over,
    TooMany,
    /// After so many entries.
    Late(u64),
}

/// Gives everything below `folder` to `give`, in the order of the disk, until it breaks off.
pub(super) fn walk(
    folder: &Folder,
    selection: &Selection,
    reach: Reach,
    give: &mut impl FnMut(Item) -> ControlFlow<()>,
) -> io::Result<Walk> {
    let mut seen = 0;
    let mut path = Vec::new();
    let mut stack = vec![Level::new(folder.open_folder(&path)?)?];
    while let Some(level) = stack.last_mut() {
        let Some((name, kind)) = level.next(folder, &path)? else {
            path.truncate(level.parent);
            stack.pop();
            continue;
        };
        if seen == reach.entries {
            return Ok(Walk::TooMany);
        }
        seen += 1;
        if seen % LOOK_EVERY == 0 && Instant::now() >= reach.until {
            return Ok(Walk::Late(seen));
        }
        let parent = path.len();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        let item = match kind {
            _ if path.len() >= MOST_PATH => {
                Some(Item::Skipped(format!("{}: name is too long", shown(&path))))
            }
            FileType::Directory if selection.leaves_out_folder(&path) => None,
            FileType::Directory => match level.enter(&name) {
                Ok(level) => {
                    let depth = stack.len();
                    if let Some(far) = depth.checked_sub(MOST_OPEN).and_then(|at| stack.get_mut(at)) {
                        far.dir = None;
                    }
                    stack.push(Level { parent, ..level });
                    continue;
                }
                Err(err) => Some(Item::Skipped(format!("{}: {err}", shown(&path)))),
            },
            _ if !selection.keeps(&path) => None,
            FileType::RegularFile => level.stat(&path, &name),
            kind => Some(Item::Skipped(format!("{}: {}, not stored", shown(&path), kind_name(kind)))),
        };
        path.truncate(parent);
        if item.is_some_and(|item| give(item).is_break()) {
            return Ok(Walk::Over);
        }
    }
    Ok(Walk::Over)
}

/// A folder that is being read.
struct Level {
    /// `None`: closed for now; reading goes on at `cookie`.
    dir: Option<Dir>,
    cookie: i64,
    /// Length of the path of the folder above.
    parent: usize,
}

impl Level {
    fn new(folder: OwnedFd) -> io::Result<Self> {
        Ok(Self { dir: Some(Dir::new(folder)?), cookie: 0, parent: 0 })
    }

    /// A folder in this one, which has just been read: from here, for the way from the top may be long.
    fn enter(&self, name: &[u8]) -> io::Result<Self> {
        let dir = self.dir.as_ref().ok_or(io::Errno::BADF)?;
        Self::new(folder::enter(dir.fd()?, name)?)
    }

    fn next(&mut self, folder: &Folder, path: &[u8]) -> io::Result<Option<(Vec<u8>, FileType)>> {
        if self.dir.is_none() {
            let mut dir = Dir::new(folder.open_folder(path)?)?;
            dir.seek(self.cookie)?;
            self.dir = Some(dir);
        }
        let Some(dir) = &mut self.dir else { return Ok(None) };
        while let Some(entry) = dir.read() {
            let entry = entry?;
            self.cookie = entry.offset();
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            // Not every filesystem tells the kind with the name.
            let kind = match entry.file_type() {
                FileType::Unknown => statat(dir.fd()?, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)
                    .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode)),
                known => known,
            };
            return Ok(Some((name.to_vec(), kind)));
        }
        Ok(None)
    }

    fn stat(&self, path: &[u8], name: &[u8]) -> Option<Item> {
        let stat = statat(self.dir.as_ref()?.fd().ok()?, name, AtFlags::SYMLINK_NOFOLLOW);
        Some(match stat {
            Ok(stat) => {
                Item::File(Found { path: path.to_vec(), size: u64::try_from(stat.st_size).unwrap_or(0) })
            }
            Err(err) => Item::Skipped(format!("{}: {err}", shown(path))),
        })
    }
}

/// Gathers files into batches of a size that one call may carry.
#[derive(Debug, Default)]
pub(super) struct Batch {
    files: Vec<Found>,
    addresses: u64,
}

impl Batch {
    /// Adds a file; gives the batch before it if that is full.
    pub(super) fn push(&mut self, file: Found) -> Option<Vec<Found>> {
        let addresses = file.size.div_ceil(part_size(file.size)).max(1);
        let full = self.files.len() >= MOST_FILES || self.addresses + addresses > MOST_ADDRESSES;
        let before = if full { self.take() } else { None };
        self.addresses += addresses;
        self.files.push(file);
        before
    }

    pub(super) fn take(&mut self) -> Option<Vec<Found>> {
        let taken = std::mem::take(self);
        (!taken.files.is_empty()).then_some(taken.files)
    }
}

/// A path for people: escaped, so that a name cannot forge a line of a log, and its ends alone if it is long.
pub(super) fn shown(path: &[u8]) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).escape_debug().to_string();
    if path.len() <= 2 * MOST_SHOWN {
        return format!("`{}`", text(path));
    }
    let (start, end) = (&path[..MOST_SHOWN], &path[path.len() - MOST_SHOWN..]);
    format!("`{}…{}`", text(start), text(end))
}

const fn kind_name(kind: FileType) -> &'static str {
    match kind {
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a named pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "not a file",
    }
}
