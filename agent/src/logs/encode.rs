//! Records numbered, stamped and encoded, within the job's cap and the disk's room. What it has to leave out, it says
//! in the log itself.

use super::spool::Window;
use longshore_common::{
    clock::Timestamp,
    logs::{LONGEST_RECORD, MAX_PAYLOAD, Position, RecordHeader, Stream},
    units::ByteSize,
};

/// Encoded bytes per byte of the cap: room for the frames of short lines, and a bound for those of empty ones.
const FRAMES: u64 = 4;
/// Of these, what is left for Longshore's own lines: they say why the rest is missing.
const SYSTEM_ROOM: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct Encoder {
    pub(super) window: Window,
    sequence: u64,
    /// Output taken so far, without frames.
    taken: u64,
    cap: u64,
    /// Output left out after the cap was reached.
    over_cap: Option<u64>,
    /// Output left out since the disk has no room.
    no_room: u64,
}

impl Encoder {
    pub(super) fn new(cap: u64, from: Position) -> Self {
        let taken = from.stdout_bytes + from.stderr_bytes;
        let window = Window::starting_at(from.end);
        Self { window, sequence: from.sequence, taken, cap, over_cap: None, no_room: 0 }
    }

    /// Whether there is no room for output; what is refused is counted.
    pub(super) fn refuses(&mut self, stream: Stream, length: usize, memory: usize) -> bool {
        if let (Some(over), Stream::Stdout | Stream::Stderr) = (&mut self.over_cap, stream) {
            *over += length as u64;
            return true;
        }
        let full = self.window.disk_error.is_some() && self.window.tail.len() >= memory;
        if full {
            self.no_room += length as u64;
        }
        full
    }

    /// `extra`: so many bytes more were written in its place.
    pub(super) fn output(&mut self, stream: Stream, time: Timestamp, data: &[u8], partial: bool, extra: i64) {
        let length = data.len() as u64;
        let encoded = self.window.end() + (LONGEST_RECORD - MAX_PAYLOAD) as u64 + length;
        let most = self.cap.saturating_mul(FRAMES).saturating_sub(SYSTEM_ROOM).max(self.cap);
        let fits = self.taken + length <= self.cap && encoded <= most;
        match &mut self.over_cap {
            None if fits => {
                self.taken += length;
                self.record(stream, time, data, partial, extra);
            }
            None => {
                self.over_cap = Some(length);
                let line = format!(
                    "log limit of {} reached: later output is discarded",
                    ByteSize(self.cap).rounded()
                );
                self.system(time, line.as_bytes());
            }
            Some(over) => *over += length,
        }
    }

    pub(super) fn system(&mut self, time: Timestamp, line: &[u8]) {
        if self.window.end() + (MAX_PAYLOAD as u64) < self.cap.saturating_mul(FRAMES) {
            let line = &line[..line.len().min(MAX_PAYLOAD - 1)];
            self.record(Stream::System, time, &[line, b"\n"].concat(), false, 0);
        }
    }

    pub(super) fn tell_gap(&mut self, time: Timestamp) {
        let lost = std::mem::take(&mut self.no_room);
        if lost > 0 {
            let why = self.window.disk_error.as_deref().unwrap_or("no room on the agent's disk");
            let line = format!("gap: {lost} bytes of output were dropped here: {why}");
            self.system(time, line.as_bytes());
        }
    }

    pub(super) fn tell_over_cap(&mut self, time: Timestamp) {
        if let Some(over) = self.over_cap {
            let line = format!("{over} bytes of output were discarded after the log limit");
            self.system(time, line.as_bytes());
        }
    }

    fn record(&mut self, stream: Stream, time: Timestamp, data: &[u8], partial: bool, extra: i64) {
        let header = RecordHeader { sequence: self.sequence, time, stream, partial };
        header.encode_masked(data, extra, &mut self.window.tail);
        self.sequence += 1;
    }
}
