//! Where a stored log ends, told from its records.

use super::{Error, LogKey, LogStore};
use longshore_common::logs::Position;

/// Read at a time.
const CHUNK: usize = 4 << 20;

pub async fn position(store: &dyn LogStore, key: LogKey) -> Result<Position, Error> {
    let mut position = Position::default();
    loop {
        let bytes = store.read(key, position.end, CHUNK).await?;
        if bytes.is_empty() {
            return Ok(position);
        }
        position.pass(bytes)?;
    }
}
