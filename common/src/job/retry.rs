//! When a job that ended badly is tried again. Data on the job; the lifecycle decides with it.

use super::outcome::{Blame, Outcome};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Attempts at most, the first included.
    pub attempts: u32,
    pub backoff: Duration,
    pub max_backoff: Duration,
    /// Names of outcomes that are tried again; empty: those whose blame is the platform's.
    pub on: Vec<String>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            // The first and three more: the default retries platform outcomes three times.
            attempts: 4,
            backoff: Duration::from_secs(2),
            max_backoff: Duration::from_secs(300),
            on: Vec::new(),
        }
    }
}

impl RetryPolicy {
    /// How long to wait before the next attempt, or `None` if `outcome` of attempt `number` is the job's end.
    /// `jitter` is a random number in `0.0..1.0`; half of the wait is random.
    pub fn next_wait(&self, outcome: &Outcome, number: u32, jitter: f64) -> Option<Duration> {
        let covered = if self.on.is_empty() {
            outcome.blame() == Blame::Platform && outcome.retried_by_default()
        } else {
            self.on.iter().any(|name| name == outcome.name())
        };
        if !covered || number >= self.attempts {
            return None;
        }
        let doubled = self.backoff.saturating_mul(1 << number.saturating_sub(1).min(16));
        let full = doubled.min(self.max_backoff);
        Some(full / 2 + (full / 2).mul_f64(jitter.clamp(0.0, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_outcomes_are_never_retried_by_default() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.next_wait(&Outcome::ExitCode(3), 1, 0.5), None);
        assert!(policy.next_wait(&Outcome::AgentLost, 1, 0.5).is_some());
        assert_eq!(policy.next_wait(&Outcome::AgentLost, 4, 0.5), None);
    }

    #[test]
    fn named_outcomes_replace_the_default() {
        let policy = RetryPolicy { on: vec!["exit_code".into()], ..RetryPolicy::default() };
        assert!(policy.next_wait(&Outcome::ExitCode(3), 1, 0.0).is_some());
        assert_eq!(policy.next_wait(&Outcome::AgentLost, 1, 0.0), None);
    }

    #[test]
    fn waits_double_up_to_the_cap() {
        let policy = RetryPolicy { attempts: 100, ..RetryPolicy::default() };
        let wait = |n| policy.next_wait(&Outcome::AgentLost, n, 1.0).expect("retried");
        assert_eq!(wait(1), Duration::from_secs(2));
        assert_eq!(wait(3), Duration::from_secs(8));
        assert_eq!(wait(60), Duration::from_secs(300));
    }
}
