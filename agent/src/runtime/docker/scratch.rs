//! The folders of one container on the host: made before it, removed after it. Blocks. Never looks into them.

use super::outage::Note;
use crate::{runtime::Scratch, sized, tree};
use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::Path,
};

/// Makes those that are not there. With a `limit` they share a file system of that size.
pub(super) fn make(scratch: &Scratch, limit: Option<u64>) -> io::Result<()> {
    if let Some(disk) = Scratch::disk(&scratch.out) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(disk)?;
        limit.map_or(Ok(()), |limit| sized::make(disk, limit))?;
        // A fresh file system is open.
        fs::set_permissions(disk, fs::Permissions::from_mode(0o700))?;
    }
    [&scratch.out, &scratch.tmp].into_iter().try_for_each(|folder| open_to_all(folder))
}

/// A folder that any user of any image may write to, in one that nobody but root may enter.
fn open_to_all(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).create(folder)?;
    // Sticky, as /tmp is. Set apart from the creation, which the umask takes from.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o1777))
}

/// The folder, and those above it that are the attempt's own once they are empty.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    let disk = Scratch::disk(folder);
    disk.map_or(Ok(()), sized::release)?;
    tree::remove(folder)?;
    Note::remove(folder);
    // It fails as long as something else is in there: the other one, inputs, a spool.
    for above in [disk, Scratch::home(folder)].into_iter().flatten() {
        drop(fs::remove_dir(above));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::contract::sample_spec;

    #[test]
    fn folders_are_open_to_any_user_in_one_that_is_closed_and_go_without_a_trace() {
        let home = tempfile::tempdir().expect("a folder");
        let scratch = Scratch::of(home.path(), sample_spec().attempt, []);
        make(&scratch, None).expect("made");
        make(&scratch, None).expect("they are there");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o7777;
        assert_eq!((mode(&scratch.out), mode(&scratch.tmp)), (0o1777, 0o1777));
        assert_eq!(mode(Scratch::home(&scratch.out).expect("below one")), 0o700);
        assert_eq!(mode(Scratch::disk(&scratch.out).expect("below one")), 0o700);
        fs::write(scratch.out.join("a"), "left").expect("written");
        [&scratch.out, &scratch.tmp].into_iter().for_each(|folder| remove(folder).expect("removed"));
        assert_eq!(fs::read_dir(home.path()).expect("there").count(), 0);
    }
}
