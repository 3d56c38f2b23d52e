//! A file system of a given size in one file: what is written there cannot outgrow it. Made, found again after a
//! restart, and taken off again with its file; a loop device is the mount's own and goes with it. Knows neither
//! jobs nor containers.
//!
//! The file is sparse. A machine whose disk others fill can still run out below it; the agent's disk reserve is
//! there for that.

mod ability;

pub use ability::Missing;
pub(crate) use ability::{missing, sees_our_mounts, try_out};

use rustix::{
    fs::{StatVfs, statvfs},
    io::Errno,
    mount::{UnmountFlags, unmount},
};
use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The folder of an attempt that can be one.
pub(crate) const FOLDER: &str = "disk";
/// `mkfs.ext4` needs some blocks for itself.
const LEAST: u64 = 8 << 20;
/// With less than this left nothing of use can be written.
const FULL: u64 = 256 << 10;
/// Where the tools are, also for users without them in their `PATH`.
const TOOLS: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// No journal: nothing in it outlives a crash of the machine. Tables are written when they are used, so that a large
/// one is made as fast as a small one.
const FORMAT: [&str; 14] = [
    "-q",
    "-F",
    "-b",
    "4096",
    "-I",
    "256",
    "-i",
    "16384",
    "-m",
    "0",
    "-O",
    "^has_journal,^resize_inode",
    "-E",
    "lazy_itable_init=1,nodiscard",
];
/// `discard` gives the space of deleted files back to the node.
const OPTIONS: &str = "loop,noatime,nosuid,nodev,noinit_itable,discard";

/// Makes `folder` one of `bytes`, tables included. One that is there already is kept. Blocks, as all of this.
pub(crate) fn make(folder: &Path, bytes: u64) -> io::Result<()> {
    if is_mounted(folder)? {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    let image = image(folder);
    forget(&image)?;
    // Whole blocks, rounded down: it must not be larger.
    File::create_new(&image)?.set_len((bytes.max(LEAST) >> 12) << 12)?;
    run(Command::new("mkfs.ext4").args(FORMAT).arg(&image))?;
    run(Command::new("mount").args(["-t", "ext4", "-o", OPTIONS]).arg(&image).arg(folder))
}

/// Takes it off and frees its bytes at once, however much is in it. What is not there is fine.
pub(crate) fn release(folder: &Path) -> io::Result<()> {
    while is_mounted(folder)? {
        match unmount(folder, UnmountFlags::NOFOLLOW) {
            // Whoever still has a file of it open keeps the bytes until it closes it.
            Err(Errno::BUSY) => unmount(folder, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)?,
            // Another call was faster.
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    forget(&image(folder))
}

/// Whether `folder` is the top of another file system than the one it lies in.
pub(crate) fn is_mounted(folder: &Path) -> io::Result<bool> {
    let device = |path: &Path| match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found.dev())),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    };
    let Some(above) = folder.parent() else { return Ok(false) };
    match (device(folder)?, device(above)?) {
        (Some(own), Some(above)) => Ok(own != above),
        _ => Ok(false),
    }
}

/// What is taken of it, deleted files that are still open too; and whether nothing more goes in.
pub(crate) fn fill(folder: &Path) -> io::Result<Fill> {
    let StatVfs { f_blocks, f_bfree, f_bavail, f_frsize, f_ffree, .. } = statvfs(folder)?;
    Ok(Fill {
        bytes: f_blocks.saturating_sub(f_bfree).saturating_mul(f_frsize),
        is_full: f_bavail.saturating_mul(f_frsize) < FULL || f_ffree == 0,
    })
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fill {
    pub(crate) bytes: u64,
    pub(crate) is_full: bool,
}

/// Beside the folder: whoever removes the attempt's folder removes it too.
fn image(folder: &Path) -> PathBuf {
    folder.with_extension("img")
}

fn forget(image: &Path) -> io::Result<()> {
    match fs::remove_file(image) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn run(command: &mut Command) -> io::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.env("PATH", TOOLS).env("LC_ALL", "C").stdin(Stdio::null());
    let output =
        command.output().map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{name}: {} ({})", said.trim().replace('\n', "; "), output.status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_no_mount_is_released_with_the_file_a_killed_process_left() {
        let home = tempfile::tempdir().expect("a folder");
        let folder = home.path().join("disk");
        release(&folder).expect("nothing is there");
        fs::create_dir(&folder).expect("made");
        fs::write(image(&folder), "half a file system").expect("written");
        assert!(!is_mounted(&folder).expect("looked"));
        release(&folder).expect("released");
        assert!(!image(&folder).exists() && folder.exists());
    }

    #[test]
    fn the_top_of_another_file_system_is_seen() {
        assert!(is_mounted(Path::new("/proc")).expect("looked"));
        assert!(!is_mounted(Path::new("/")).expect("looked"));
    }

    #[test]
    fn a_tool_that_fails_is_named_with_its_words() {
        let error = run(Command::new("ls").arg("/nowhere/at/all")).expect_err("it is not there");
        assert!(error.to_string().starts_with("ls: ") && error.to_string().contains("/nowhere"), "{error}");
        let error = run(&mut Command::new("no-such-tool")).expect_err("it is not there");
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
