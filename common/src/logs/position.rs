//! How far a log has come: what a process that goes on with it must know.

use super::{DecodeError, Record, Stream, record::decode_counted};
use bytes::Bytes;

/// The place after some records of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Offset in the encoded log.
    pub end: u64,
    /// Of the next record.
    pub sequence: u64,
    /// What the container wrote to each stream before here.
    pub stdout_bytes: u64,
    pub stderr_bytes: u64,
}

impl Position {
    /// Moves over the whole records that `bytes` begins with.
    pub fn pass(&mut self, mut bytes: Bytes) -> Result<(), DecodeError> {
        while let Some((Record { header, .. }, used, written)) = decode_counted(&bytes)? {
            match header.stream {
                Stream::Stdout => self.stdout_bytes += written,
                Stream::Stderr => self.stderr_bytes += written,
                Stream::System => {}
            }
            self.end += used as u64;
            self.sequence = header.sequence + 1;
            bytes = bytes.slice(used..);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Timestamp, logs::RecordHeader};

    #[test]
    fn streams_are_counted_apart_and_a_cut_record_is_not_passed() {
        let mut bytes = Vec::new();
        let records = [(Stream::System, "pulled\n"), (Stream::Stdout, "one"), (Stream::Stderr, "four\n")];
        for (sequence, (stream, text)) in (7..).zip(records) {
            let header = RecordHeader { sequence, time: Timestamp::from_micros(0), stream, partial: false };
            header.encode(text.as_bytes(), &mut bytes);
        }
        // `ab` and a secret of 20 bytes, the end of whose mask is in the next record.
        for (sequence, text, extra) in [(10, "ab**", 18), (11, "*c", -1)] {
            let stream = Stream::Stdout;
            let header = RecordHeader { sequence, time: Timestamp::from_micros(0), stream, partial: false };
            header.encode_masked(text.as_bytes(), extra, &mut bytes);
        }
        let whole = bytes.len() as u64;
        bytes.extend_from_slice(&[1, 0, 0]);
        let mut position = Position::default();
        position.pass(bytes.into()).expect("well formed");
        assert_eq!(position, Position { end: whole, sequence: 12, stdout_bytes: 26, stderr_bytes: 5 });
    }
}
