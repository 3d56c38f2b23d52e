//! One record: a fixed header and the exact bytes the container wrote, line ending included. The bytes of one
//! stream, joined in order, are what was written.
//!
//! ```text
//! u32 payload length | u8 stream | u8 flags (1: partial, 2: masked) | i64 time in µs | u64 sequence     little-endian
//! ```
//!
//! Where secrets are masked the payload begins with an i64: how many bytes more than the rest the container wrote.

use crate::clock::Timestamp;
use bytes::Bytes;

pub const HEADER_LENGTH: usize = 22;
/// Longer lines are split into partial records.
pub const MAX_PAYLOAD: usize = 32 * 1024;

const PARTIAL: u8 = 1;
const MASKED: u8 = 2;
/// Of the number in front of a masked payload.
const EXTRA: usize = 8;
/// The most bytes a record takes.
pub const LONGEST_RECORD: usize = HEADER_LENGTH + EXTRA + MAX_PAYLOAD;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    Stdout,
    Stderr,
    /// Longshore's own words: progress of pulls, gaps, limits.
    System,
}

impl Stream {
    pub const ALL: [Self; 3] = [Self::Stdout, Self::Stderr, Self::System];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::System => "system",
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
            Self::System => 3,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|stream| stream.code() == code)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    pub sequence: u64,
    pub time: Timestamp,
    pub stream: Stream,
    /// The line goes on in the next record of this stream.
    pub partial: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub header: RecordHeader,
    pub data: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("log record of {0} bytes is longer than a record may be")]
    TooLong(usize),
    #[error("log record of unknown stream {0}")]
    UnknownStream(u8),
}

impl RecordHeader {
    /// Appends the record to `out`. `data` must not be longer than [`MAX_PAYLOAD`].
    pub fn encode(&self, data: &[u8], out: &mut Vec<u8>) {
        self.encode_masked(data, 0, out);
    }

    /// As `encode`, of a record in whose place the container wrote so many bytes more.
    pub fn encode_masked(&self, data: &[u8], extra: i64, out: &mut Vec<u8>) {
        debug_assert!(data.len() <= MAX_PAYLOAD);
        let masked = extra != 0;
        let length = data.len() + if masked { EXTRA } else { 0 };
        out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        out.push(self.stream.code());
        out.push(if self.partial { PARTIAL } else { 0 } | if masked { MASKED } else { 0 });
        out.extend_from_slice(&self.time.as_micros().to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        if masked {
            out.extend_from_slice(&extra.to_le_bytes());
        }
        out.extend_from_slice(data);
    }
}

/// The first record of `bytes` and the length it takes, or `None` if `bytes` ends inside it.
pub fn decode(bytes: &Bytes) -> Result<Option<(Record, usize)>, DecodeError> {
    Ok(decode_counted(bytes)?.map(|(record, used, _)| (record, used)))
}

/// As `decode`, with how many bytes the container wrote of it.
pub(super) fn decode_counted(bytes: &Bytes) -> Result<Option<(Record, usize, u64)>, DecodeError> {
    let Some(header) = bytes.get(..HEADER_LENGTH) else { return Ok(None) };
    let length = payload_length(header)?;
    let end = HEADER_LENGTH + length;
    if bytes.len() < end {
        return Ok(None);
    }
    let extra = match bytes.get(HEADER_LENGTH..HEADER_LENGTH + EXTRA) {
        Some(extra) if header[5] & MASKED != 0 && length >= EXTRA => Some(i64::from_le_bytes(eight(extra))),
        _ => None,
    };
    let start = HEADER_LENGTH + extra.map_or(0, |_| EXTRA);
    let record = Record {
        header: RecordHeader {
            stream: Stream::from_code(header[4]).ok_or(DecodeError::UnknownStream(header[4]))?,
            partial: header[5] & PARTIAL != 0,
            time: Timestamp::from_micros(i64::from_le_bytes(eight(&header[6..14]))),
            sequence: u64::from_le_bytes(eight(&header[14..22])),
        },
        data: bytes.slice(start..end),
    };
    let written = (record.data.len() as u64).saturating_add_signed(extra.unwrap_or(0));
    Ok(Some((record, end, written)))
}

/// How many leading bytes of `bytes` are whole, well-formed records.
pub fn whole_records(bytes: &[u8]) -> Result<usize, DecodeError> {
    let mut at = 0;
    while let Some(header) = bytes.get(at..at + HEADER_LENGTH) {
        let end = at + HEADER_LENGTH + payload_length(header)?;
        if end > bytes.len() {
            break;
        }
        Stream::from_code(header[4]).ok_or(DecodeError::UnknownStream(header[4]))?;
        at = end;
    }
    Ok(at)
}

fn payload_length(header: &[u8]) -> Result<usize, DecodeError> {
    let mut length = [0; 4];
    length.copy_from_slice(&header[..4]);
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_PAYLOAD + EXTRA { Err(DecodeError::TooLong(length)) } else { Ok(length) }
}

fn eight(bytes: &[u8]) -> [u8; 8] {
    let mut array = [0; 8];
    array.copy_from_slice(bytes);
    array
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let header = RecordHeader {
            sequence: 7,
            time: Timestamp::from_micros(-5),
            stream: Stream::Stderr,
            partial: true,
        };
        header.encode(data, &mut out);
        out
    }

    #[test]
    fn a_record_reads_back() {
        let (record, used) = decode(&encoded(b"no newline").into()).expect("well formed").expect("whole");
        assert_eq!(used, HEADER_LENGTH + 10);
        assert_eq!(&record.data[..], b"no newline");
        assert_eq!(record.header.stream, Stream::Stderr);
        assert_eq!((record.header.sequence, record.header.time.as_micros()), (7, -5));
        assert!(record.header.partial);
    }

    #[test]
    fn a_cut_record_is_left_for_later() {
        let mut bytes = encoded(b"one");
        let first = bytes.len();
        bytes.extend(encoded(b"two"));
        for cut in first..bytes.len() {
            assert_eq!(whole_records(&bytes[..cut]), Ok(first));
        }
        assert_eq!(decode(&Bytes::from(bytes[..10].to_vec())), Ok(None));
    }

    #[test]
    fn garbage_is_refused() {
        assert!(whole_records(&[0xff; 64]).is_err());
        assert_eq!(whole_records(&[0; 64]), Err(DecodeError::UnknownStream(0)));
    }
}
