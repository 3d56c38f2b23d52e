//! What an engine that went away under a running container did to its log. The engine loses what it had taken from the
//! container and not written down, and does not say so; and what we had seen may be missing in its log. Both are
//! remembered beside the scratch folders, for the agent's next process. Never reads a log.

use crate::runtime::{Counts, Scratch};
use longshore_common::{
    clock::{Moment, Timestamp, Uptime},
    durable,
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
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
    pub(super) until: Moment,
}

impl Default for Note {
    fn default() -> Self {
        Self { unlogged: Counts::default(), until: Moment { at: Timestamp::from_micros(0), up: None } }
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
                until: Moment {
                    at: Timestamp::from_micros(until),
                    up: next().map(|up| Uptime::of(Duration::from_micros(up.unsigned_abs()))),
                },
            },
            _ => Self::default(),
        }
    }

    /// Whether the engine that began then is dealt with. A clock that was set since makes it no other.
    pub(super) fn covers(&self, engine: Moment) -> bool {
        match (self.until.up, engine.up) {
            (Some(until), Some(began)) => began <= until,
            _ => engine.at <= self.until.at,
        }
    }

    pub(super) fn write(&self, beside: Option<&Path>) -> io::Result<()> {
        let Some(file) = beside.and_then(file) else { return Ok(()) };
        let Counts { stdout, stderr } = self.unlogged;
        let up = self.until.up.map(|up| up.since(Uptime::of(Duration::ZERO)).as_micros());
        let up = up.map(|up| format!(" {up}")).unwrap_or_default();
        let text = format!("{stdout} {stderr} {}{up}\n", self.until.at.as_micros());
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
        for up in [Some(Uptime::of(Duration::from_millis(4711))), None] {
            let until = Moment { at: Timestamp::from_micros(1_700_000_000_000_000), up };
            let note = Note { unlogged: Counts { stdout: 7, stderr: 0 }, until };
            note.write(Some(&out)).expect("written");
            assert_eq!(Note::read(Some(&out)), note);
        }
        Note::remove(&out);
        assert_eq!(fs::read_dir(home.path()).expect("there").count(), 0);
    }

    #[test]
    fn an_engine_that_is_dealt_with_stays_so_when_the_clock_is_set() {
        let moment = |day: i64, up: u64| Moment {
            at: Timestamp::from_micros(day * 1_000_000),
            up: Some(Uptime::of(Duration::from_secs(up))),
        };
        let note = Note { until: moment(1_020, 20), ..Note::default() };
        // Began at 15, as the clock calls it that was set ahead, or back, by ten minutes since; and another one.
        assert!(note.covers(moment(1_015, 15)) && note.covers(moment(1_615, 15)));
        assert!(!note.covers(moment(1_030, 30)) && !note.covers(moment(430, 30)));
        let old = Note { until: Moment { up: None, ..note.until }, ..note };
        assert!(old.covers(moment(1_015, 15)) && !old.covers(moment(1_030, 30)));
        assert!(!Note::default().covers(moment(1_015, 15)));
    }
}
