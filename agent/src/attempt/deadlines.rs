//! When to look at a running container again. Pure.

use std::time::Duration;
use tokio::time::Instant;

pub(super) const SHORTEST: Duration = Duration::from_millis(250);
pub(super) const LONGEST: Duration = Duration::from_secs(2);

/// At most between two looks at files that count as memory: what is written meanwhile is the overshoot.
pub(super) const FILES: Duration = Duration::from_millis(500);

/// The end of a length that starts at `now`. A length beyond what the clock can say is a century.
pub(super) fn after(now: Instant, length: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    now + length.min(CENTURY)
}

/// Growth of a container's disk use, for the wait to the next look.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DiskWatch {
    last: u64,
    wait: Duration,
}

impl DiskWatch {
    /// The wait after a look that saw `used` bytes: a quarter of the time to the limit at the present rate, so
    /// that a fast writer is looked at often, and a quiet one rarely.
    pub(super) fn next(&mut self, used: u64, limit: u64, since_last: Duration) -> Duration {
        let grown = used.saturating_sub(self.last);
        self.last = used;
        let left = limit.saturating_sub(used);
        self.wait = if grown == 0 || since_last.is_zero() {
            self.wait.saturating_mul(2)
        } else {
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            let share = left as f64 / grown as f64 / 4.0;
            since_last.mul_f64(share.min(16.0))
        }
        .clamp(SHORTEST, LONGEST);
        self.wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 1 << 30;

    #[test]
    fn a_quiet_container_is_looked_at_less_and_less() {
        let mut watch = DiskWatch::default();
        let waits: Vec<_> = (0..6).map(|_| watch.next(0, LIMIT, SHORTEST)).collect();
        assert_eq!(waits[0], SHORTEST);
        assert_eq!(waits[5], LONGEST);
    }

    #[test]
    fn a_fast_writer_near_its_limit_is_looked_at_often() {
        let mut watch = DiskWatch::default();
        watch.next(0, LIMIT, LONGEST);
        assert_eq!(watch.next(LIMIT / 2, LIMIT, LONGEST), Duration::from_millis(500));
        assert_eq!(watch.next(LIMIT - 1, LIMIT, LONGEST), SHORTEST);
        assert_eq!(watch.next(LIMIT * 2, LIMIT, LONGEST), SHORTEST, "past the limit");
    }
}
