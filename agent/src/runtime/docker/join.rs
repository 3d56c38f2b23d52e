//! Makes the exact bytes out of the engine's own log again (driver `local`, read with timestamps). That driver
//! keeps lines apart in frames: a line over 16 KiB comes as several frames of one time and without its newline.
//! What has been seen before is skipped by counting bytes per stream, never by time.

use super::time;
use crate::runtime::Counts;
use bytes::Bytes;
use longshore_common::{clock::Timestamp, logs::Stream};

/// Joins the frames of both streams.
#[derive(Debug)]
pub(super) struct Join {
    stdout: Line,
    stderr: Line,
}

#[derive(Debug)]
struct Line {
    skip: u64,
    /// Time of the last frame.
    time: Bytes,
    /// The last frame had no newline: if the next one is of another time, the driver dropped it.
    open: bool,
    /// All of the last frame but its newline had been seen. The driver ends every line, so this one may be its
    /// own: it counts once more is written.
    held: bool,
}

/// A frame of the engine's log that does not begin with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoTime;

impl Join {
    pub(super) fn skipping(seen: Counts) -> Self {
        let line = |skip| Line { skip, time: Bytes::new(), open: false, held: false };
        Self { stdout: line(seen.stdout), stderr: line(seen.stderr) }
    }

    /// The new bytes that this frame brings, at most two pieces, in order.
    pub(super) fn feed(&mut self, stream: Stream, frame: Bytes) -> Result<[Bytes; 2], NoTime> {
        let line = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr | Stream::System => &mut self.stderr,
        };
        let space = frame.iter().position(|byte| *byte == b' ').ok_or(NoTime)?;
        let time = frame.slice(..space);
        let newline = Bytes::from_static(b"\n");
        let newline = match (std::mem::take(&mut line.held), line.open && line.time != time) {
            (true, _) => newline,
            (false, true) => line.past(newline),
            (false, false) => Bytes::new(),
        };
        let data = frame.slice(space + 1..);
        let length = data.len();
        line.open = !data.ends_with(b"\n");
        line.time = time;
        let mut rest = line.past(data);
        if length > 1 && &rest[..] == b"\n" {
            line.held = true;
            rest = Bytes::new();
        }
        Ok([newline, rest])
    }

    /// Bytes that were seen before and that the engine did not repeat.
    pub(super) const fn missing(&self) -> u64 {
        self.stdout.skip + self.stderr.skip
    }

    /// From here on the log is of an engine's next process: what was seen before and is not in it by now never will be,
    /// and nothing more is skipped. Answers how much that is.
    pub(super) const fn give_up(&mut self) -> Counts {
        let unlogged = Counts { stdout: self.stdout.skip, stderr: self.stderr.skip };
        (self.stdout.skip, self.stderr.skip) = (0, 0);
        unlogged
    }
}

/// When the engine took a frame of its log from the container.
pub(super) fn taken_at(frame: &Bytes) -> Result<Timestamp, NoTime> {
    let time = frame.split(|byte| *byte == b' ').next().ok_or(NoTime)?;
    std::str::from_utf8(time).ok().and_then(time::parse).ok_or(NoTime)
}

impl Line {
    fn past(&mut self, data: Bytes) -> Bytes {
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(data.len());
        self.skip -= skipped as u64;
        data.slice(skipped..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(seen: Counts, frames: &[(Stream, &str)]) -> (String, String) {
        let mut join = Join::skipping(seen);
        let mut text = (String::new(), String::new());
        for (stream, frame) in frames {
            let into = if *stream == Stream::Stdout { &mut text.0 } else { &mut text.1 };
            for piece in join.feed(*stream, Bytes::copy_from_slice(frame.as_bytes())).expect("has a time") {
                into.push_str(std::str::from_utf8(&piece).expect("text"));
            }
        }
        text
    }

    const FRAMES: [(Stream, &str); 6] = [
        (Stream::Stdout, "t1 one\n"),
        (Stream::Stderr, "t1 warn\n"),
        (Stream::Stdout, "t2 long-"),
        (Stream::Stdout, "t2 long-"),
        (Stream::Stdout, "t2 end"),
        (Stream::Stdout, "t3 two\n"),
    ];

    #[test]
    fn a_long_line_gets_its_newline_back() {
        let (out, err) = joined(Counts::default(), &FRAMES);
        assert_eq!((out.as_str(), err.as_str()), ("one\nlong-long-end\ntwo\n", "warn\n"));
    }

    #[test]
    fn what_was_seen_is_skipped_per_stream_wherever_it_was_cut() {
        let whole = "one\nlong-long-end\ntwo\n";
        for cut in (0..=whole.len()).filter(|cut| *cut != whole.len() - 1) {
            let (out, err) = joined(Counts { stdout: cut as u64, stderr: 2 }, &FRAMES);
            assert_eq!((out.as_str(), err.as_str()), (&whole[cut..], "rn\n"));
        }
    }

    #[test]
    fn a_last_line_without_newline_does_not_get_one() {
        let seen = Counts { stdout: 3, stderr: 0 };
        assert_eq!(joined(seen, &FRAMES[..1]).0, "");
        assert_eq!(joined(seen, &[FRAMES[0], FRAMES[5]]).0, "\ntwo\n", "more was written after it");
    }

    #[test]
    fn what_was_seen_and_never_logged_does_not_swallow_what_comes_later() {
        // Seen before the engine died -> (its log before, its log after) -> what is new, and what was never logged.
        let table = [
            ("one\ntwo\n", "t1 one\n", "t9 four\n", "four\n", 4),
            ("one\ntwo\n", "t1 one\n", "t9 four and more\n", "four and more\n", 4),
            ("one\ntw", "t1 one\n", "t9 o\n", "o\n", 2),
            ("one\n", "t1 one\n", "t9 four\n", "four\n", 0),
            ("on", "t1 one\n", "t9 four\n", "e\nfour\n", 0),
            ("", "t1 one\n", "t9 four\n", "one\nfour\n", 0),
        ];
        for (seen, before, after, new, unlogged) in table {
            let mut join = Join::skipping(Counts { stdout: seen.len() as u64, stderr: 0 });
            let feed = |join: &mut Join, frame: &'static str| {
                let pieces =
                    join.feed(Stream::Stdout, Bytes::from_static(frame.as_bytes())).expect("has a time");
                String::from_utf8(pieces.concat()).expect("text")
            };
            let first = feed(&mut join, before);
            assert_eq!(join.give_up().stdout, unlogged, "{seen:?}");
            assert_eq!(first + &feed(&mut join, after), new, "{seen:?}");
            assert_eq!(join.missing(), 0);
        }
    }

    #[test]
    fn a_frame_tells_when_it_was_taken() {
        let at = |frame: &'static str| taken_at(&Bytes::from_static(frame.as_bytes()));
        assert_eq!(at("1970-01-01T00:00:01.5Z one two"), Ok(Timestamp::from_micros(1_500_000)));
        assert_eq!(at("one two"), Err(NoTime));
    }

    #[test]
    fn a_log_that_is_shorter_than_what_was_seen_says_so() {
        let mut join = Join::skipping(Counts { stdout: 10, stderr: 0 });
        join.feed(Stream::Stdout, Bytes::from_static(b"t1 one\n")).expect("has a time");
        assert_eq!(join.missing(), 6);
        assert_eq!(join.feed(Stream::Stdout, Bytes::from_static(b"garbage")), Err(NoTime));
    }
}
