//! Numbers as people read them.

use longshore_common::{
    clock::Timestamp,
    units::{ByteSize, HumanDuration},
    wire,
};
use std::time::Duration;

pub(crate) fn size(bytes: u64) -> String {
    ByteSize(bytes).rounded()
}

/// A length of time.
pub(crate) fn span(length: Duration) -> String {
    HumanDuration(length).rounded()
}

/// How long ago a time was, or `-`.
pub(crate) fn age(time: Option<&prost_types::Timestamp>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| coarse(Timestamp::now().since(wire::timestamp_from(time))))
}

/// The time between two moments, or up to now.
pub(crate) fn amount(
    from: Option<&prost_types::Timestamp>,
    to: Option<&prost_types::Timestamp>,
) -> Option<Duration> {
    let end = to.map_or_else(Timestamp::now, wire::timestamp_from);
    from.map(|from| end.since(wire::timestamp_from(from)))
}

/// One unit is enough for a table.
fn coarse(length: Duration) -> String {
    let seconds = length.as_secs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_one_unit() {
        for (seconds, text) in [(0, "0s"), (119, "119s"), (120, "2m"), (7_300, "2h"), (200_000, "2d")] {
            assert_eq!(coarse(Duration::from_secs(seconds)), text);
        }
        assert_eq!(age(None), "-");
    }
}
