//! Records of a log, and places in it.

use super::{WireError, required, stream, timestamp_from, timestamp_to};
use crate::logs::{Position, Record, RecordHeader};
use longshore_proto::v1;

impl From<Record> for v1::LogRecord {
    fn from(record: Record) -> Self {
        Self {
            sequence: record.header.sequence,
            time: Some(timestamp_to(record.header.time)),
            stream: v1::Stream::from(record.header.stream) as i32,
            data: record.data,
            partial: record.header.partial,
        }
    }
}

impl TryFrom<v1::LogRecord> for Record {
    type Error = WireError;

    fn try_from(message: v1::LogRecord) -> Result<Self, WireError> {
        let header = RecordHeader {
            sequence: message.sequence,
            time: timestamp_from(&required("time", message.time)?),
            stream: stream("stream", message.stream)?,
            partial: message.partial,
        };
        Ok(Self { header, data: message.data })
    }
}

impl From<Position> for v1::ResumeLogResponse {
    fn from(position: Position) -> Self {
        let Position { end, sequence, stdout_bytes, stderr_bytes } = position;
        Self { end, sequence, stdout_bytes, stderr_bytes }
    }
}

impl From<v1::ResumeLogResponse> for Position {
    fn from(message: v1::ResumeLogResponse) -> Self {
        let v1::ResumeLogResponse { end, sequence, stdout_bytes, stderr_bytes } = message;
        Self { end, sequence, stdout_bytes, stderr_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Timestamp, logs::Stream};

    #[test]
    fn a_record_reads_back() {
        let header = RecordHeader {
            sequence: 4,
            time: Timestamp::from_micros(12),
            stream: Stream::System,
            partial: true,
        };
        let record = Record { header, data: bytes::Bytes::from_static(b"\xf0\x9f") };
        assert_eq!(Record::try_from(v1::LogRecord::from(record.clone())), Ok(record));
        assert_eq!(Record::try_from(v1::LogRecord::default()).unwrap_err().path, "time");
    }
}
