//! Where to begin reading: the last lines, or a time. Reads from the known boundaries, never the whole log.

use super::{Error, LogKey, LogStore};
use bytes::Bytes;
use longshore_common::{
    clock::Timestamp,
    logs::{Record, Stream, decode},
};

/// The offset at which the last `lines` lines of these streams begin.
pub async fn tail(store: &dyn LogStore, key: LogKey, lines: u32, streams: &[Stream]) -> Result<u64, Error> {
    let end = *store.watch(key).await?.borrow();
    let (mut wanted, mut start, mut upper) = (lines, end, end);
    let mut last = true;
    for from in store.boundaries(key).await?.into_iter().rev() {
        let records = records(store, key, from, upper).await?;
        for (offset, record) in records.iter().rev().filter(|(_, r)| streams.contains(&r.header.stream)) {
            // A piece goes with the line it continues; one that nothing follows yet is a line of its own.
            if !record.header.partial || last {
                if wanted == 0 {
                    return Ok(start);
                }
                wanted -= 1;
                last = false;
            }
            start = *offset;
        }
        upper = from;
    }
    Ok(start)
}

/// The offset of the first record at or after a time, as far as the boundaries tell: never too late.
pub async fn since(store: &dyn LogStore, key: LogKey, time: Timestamp) -> Result<u64, Error> {
    let boundaries = store.boundaries(key).await?;
    let (mut low, mut high) = (0, boundaries.len());
    while low + 1 < high {
        let middle = low.midpoint(high);
        let bytes = store.read(key, boundaries[middle], 0).await?;
        match decode(&bytes)? {
            Some((record, _)) if record.header.time < time => low = middle,
            _ => high = middle,
        }
    }
    Ok(boundaries.get(low).copied().unwrap_or(0))
}

/// All records between two boundaries, with their offsets.
async fn records(
    store: &dyn LogStore,
    key: LogKey,
    mut from: u64,
    to: u64,
) -> Result<Vec<(u64, Record)>, Error> {
    let mut found = Vec::new();
    while from < to {
        let mut bytes: Bytes =
            store.read(key, from, usize::try_from(to - from).unwrap_or(usize::MAX)).await?;
        if bytes.is_empty() {
            break;
        }
        while let Some((record, used)) = decode(&bytes)?.filter(|_| from < to) {
            found.push((from, record));
            bytes = bytes.slice(used..);
            from += used as u64;
        }
    }
    Ok(found)
}
