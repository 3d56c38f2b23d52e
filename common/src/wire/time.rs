//! Times and lengths.

use super::WireError;
use crate::clock::Timestamp;
use prost_types as pb;
use std::time::Duration;

pub fn timestamp_to(time: Timestamp) -> pb::Timestamp {
    let micros = time.as_micros();
    let nanos = i32::try_from(micros.rem_euclid(1_000_000) * 1000).expect("below a thousand million");
    pb::Timestamp { seconds: micros.div_euclid(1_000_000), nanos }
}

/// Out of range saturates: a peer's clock is shown, never computed with.
pub fn timestamp_from(time: &pb::Timestamp) -> Timestamp {
    let micros = time.seconds.saturating_mul(1_000_000);
    Timestamp::from_micros(micros.saturating_add(i64::from(time.nanos) / 1000))
}

pub fn duration_to(length: Duration) -> pb::Duration {
    let nanos = i32::try_from(length.subsec_nanos()).expect("below a thousand million");
    pb::Duration { seconds: i64::try_from(length.as_secs()).unwrap_or(i64::MAX), nanos }
}

pub fn duration_from(path: &str, length: &pb::Duration) -> Result<Duration, WireError> {
    match (u64::try_from(length.seconds), u32::try_from(length.nanos)) {
        (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => Ok(Duration::new(seconds, nanos)),
        (Ok(_), Ok(_)) => Err(WireError::new(path, "has more than a second of nanoseconds")),
        _ => Err(WireError::new(path, "is negative")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_back_on_both_sides_of_1970() {
        for micros in [0, 1, -1, -1_000_000, 1_763_721_538_123_456, i64::MIN / 2] {
            let time = Timestamp::from_micros(micros);
            assert_eq!(timestamp_from(&timestamp_to(time)), time);
        }
        assert_eq!(timestamp_from(&pb::Timestamp { seconds: i64::MAX, nanos: 9 }).as_micros(), i64::MAX);
    }

    #[test]
    fn negative_lengths_are_refused() {
        let length = Duration::new(90, 5);
        assert_eq!(duration_from("x", &duration_to(length)), Ok(length));
        for (seconds, nanos) in [(-1, 0), (0, -1), (0, i32::MAX)] {
            assert!(duration_from("x", &pb::Duration { seconds, nanos }).is_err());
        }
    }
}
