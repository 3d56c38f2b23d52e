//! Waits between tries of a call: exponential, capped, jittered. Each call site names its budget.
//! (Retries of a *job* are a decision of the lifecycle: `job::retry`.)

use rand::RngExt as _;
use std::time::Duration;

/// A growing wait. `reset` after a success.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    next: Duration,
}

impl Backoff {
    pub const fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, next: base }
    }

    /// The next wait: between half and the whole of a length that doubles up to the cap.
    pub fn next_wait(&mut self) -> Duration {
        let full = self.next;
        self.next = full.saturating_mul(2).min(self.cap);
        full / 2 + (full / 2).mul_f64(rand::rng().random_range(0.0..1.0))
    }

    pub const fn reset(&mut self) {
        self.next = self.base;
    }

    pub async fn wait(&mut self) {
        tokio::time::sleep(self.next_wait()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_start_over() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let waits: Vec<_> = (0..10).map(|_| backoff.next_wait()).collect();
        assert!(waits[0] <= Duration::from_millis(100));
        assert!(waits[9] >= Duration::from_millis(500) && waits[9] <= Duration::from_secs(1));
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(100));
    }
}
