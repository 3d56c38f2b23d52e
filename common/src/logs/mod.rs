//! An attempt's log as bytes: a plain concatenation of encoded records. The agent's spool, the wire and the
//! controller's store hold the same bytes, so an offset means the same in all three.

mod position;
mod record;

pub use position::Position;
pub use record::{
    DecodeError, HEADER_LENGTH, LONGEST_RECORD, MAX_PAYLOAD, Record, RecordHeader, Stream, decode,
    whole_records,
};
