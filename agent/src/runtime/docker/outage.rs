//! What an engine that went away under a running container did to its log. The engine loses what it had taken from the
//! container and not written down, and does not say so; and what we had seen may be missing in its log. Both are
//! remembered beside the scratch folders, for the agent's next process. Never reads a log.

use crate::runtime::{Counts, Scratch};
use longshore_common::{clock::Timestamp, durable};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

const FILE: &str = "engine-log";

/// An engine that went away and came back while the container ran on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outage {
    pub(super) lost_at: Timestamp,
    pub(super) returned_at: Timestamp,
}

impl Outage {
    /// The line of the `system` stream.
    pub(super) fn line(&self) -> String {
        let (lost, back) = (self.lost_at.to_rfc3339(), self.returned_at.to_rfc3339());
        format!(
            "gap: the container engine was away from {lost} to {back}; output of that time may be missing here\n"
        )
    }
}

/// What is known of the engine's log of one container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Note {
    /// Bytes that were seen and are not in it.
    pub(super) unlogged: Counts,
    /// Engines that began before are dealt with.
    pub(super) until: Timestamp,
}

impl Default for Note {
    fn default() -> Self {
        Self { unlogged: Counts::default(), until: Timestamp::from_micros(0) }
    }
}

impl Note {
    /// As it was written beside this folder; otherwise nothing was lost.
    pub(super) fn read(beside: Option<&Path>) -> Self {
        let text = beside.and_then(file).and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
        let mut numbers = text.split_whitespace().map(str::parse::<i64>);
        let mut next = || numbers.next()?.ok();
        match (next(), next(), next()) {
            (Some(stdout), Some(stderr), Some(until)) => Self {
                unlogged: Counts { stdout: stdout.unsigned_abs(), stderr: stderr.unsigned_abs() },
                until: Timestamp::from_micros(until),
            },
            _ => Self::default(),
        }
    }

    pub(super) fn write(&self, beside: Option<&Path>) -> io::Result<()> {
        let Some(file) = beside.and_then(file) else { return Ok(()) };
        let Counts { stdout, stderr } = self.unlogged;
        let text = format!("{stdout} {stderr} {}\n", self.until.as_micros());
        durable::replace_for_now(&file, text.as_bytes())
    }

    pub(super) fn remove(beside: &Path) {
        // There hardly ever is one.
        drop(file(beside).map(fs::remove_file));
    }
}

fn file(beside: &Path) -> Option<PathBuf> {
    // Not in the container's own file system, which may be full.
    Scratch::home(beside).map(|folder| folder.join(FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_process_reads_what_this_one_wrote() {
        let home = tempfile::tempdir().expect("a folder");
        let out = home.path().join("disk/out");
        assert_eq!(Note::read(Some(&out)), Note::default());
        let note = Note {
            unlogged: Counts { stdout: 7, stderr: 0 },
            until: Timestamp::from_micros(1_700_000_000_000_000),
        };
        note.write(Some(&out)).expect("written");
        assert_eq!(Note::read(Some(&out)), note);
        Note::remove(&out);
        assert_eq!(fs::read_dir(home.path()).expect("there").count(), 0);
    }
}
