//! When a job that ended badly is tried again. Data on the job; the lifecycle decides with it.

use super::outcome::Outcome;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Attempts at most, the first included.
    pub attempts: u32,
    pub backoff: Duration,
    pub max_backoff: Duration,
    /// Names of outcomes that are tried again; empty: those the table of outcomes says.
    pub on: Vec<String>,
    /// What differs after one outcome, by its name. An outcome with a rule is tried again.
    #[serde(default)]
    pub outcomes: BTreeMap<String, RetryRule>,
}

/// In place of the policy's own, after one outcome. `None`: the policy's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryRule {
    /// Attempts at most, those that ended otherwise included; 1: never again.
    pub attempts: Option<u32>,
    pub backoff: Option<Duration>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            // The first and three more: the default retries platform outcomes three times.
            attempts: 4,
            backoff: Duration::from_secs(2),
            max_backoff: Duration::from_secs(300),
            on: Vec::new(),
            outcomes: BTreeMap::new(),
        }
    }
}

impl RetryPolicy {
    /// How long to wait before the next attempt, or `None` if `outcome` of attempt `number` is the job's end.
    /// `jitter` is a random number in `0.0..1.0`; half of the wait is random.
    pub fn next_wait(&self, outcome: &Outcome, number: u32, jitter: f64) -> Option<Duration> {
        let rule = self.outcomes.get(outcome.name());
        let attempts = rule.and_then(|rule| rule.attempts).unwrap_or(self.attempts);
        if outcome.is_final() || !(rule.is_some() || self.covers(outcome)) || number >= attempts {
            return None;
        }
        let backoff = rule.and_then(|rule| rule.backoff).unwrap_or(self.backoff);
        let doubled = backoff.saturating_mul(1 << number.saturating_sub(1).min(16));
        // A rule's own wait is not cut by a cap that was made for another.
        let full = doubled.min(self.max_backoff.max(backoff));
        Some(full / 2 + (full / 2).mul_f64(jitter.clamp(0.0, 1.0)))
    }

    fn covers(&self, outcome: &Outcome) -> bool {
        if self.on.is_empty() {
            outcome.retried_by_default()
        } else {
            self.on.iter().any(|name| name == outcome.name())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Blame;
    use proptest::prelude::*;

    fn retried(policy: &RetryPolicy, outcome: &Outcome, number: u32) -> bool {
        policy.next_wait(outcome, number, 0.5).is_some()
    }

    fn with(rules: &[(&str, Option<u32>, Option<u64>)]) -> RetryPolicy {
        let rule = |&(name, attempts, seconds): &(&str, Option<u32>, Option<u64>)| {
            (name.to_owned(), RetryRule { attempts, backoff: seconds.map(Duration::from_secs) })
        };
        RetryPolicy { outcomes: rules.iter().map(rule).collect(), ..RetryPolicy::default() }
    }

    #[test]
    fn by_default_the_table_decides_and_what_the_user_did_is_never_tried_again() {
        let policy = RetryPolicy::default();
        for outcome in Outcome::ALL {
            assert_eq!(retried(&policy, &outcome, 1), outcome.row().retried, "{outcome}");
            assert!(!(outcome.row().retried && outcome.blame() == Blame::User), "{outcome}");
            assert!(!retried(&policy, &outcome, 4), "{outcome} three times at most");
        }
        for outcome in [Outcome::AgentLost, Outcome::EngineRestart, Outcome::RegistryUnavailable] {
            assert!(retried(&policy, &outcome, 3), "{outcome}");
        }
    }

    #[test]
    fn named_outcomes_replace_the_default() {
        let policy = RetryPolicy { on: vec!["exit_code".into()], ..RetryPolicy::default() };
        assert!(retried(&policy, &Outcome::ExitCode(3), 1));
        assert!(!retried(&policy, &Outcome::AgentLost, 1));
    }

    #[test]
    fn a_rule_for_one_outcome_changes_nothing_for_the_others() {
        let policy = with(&[("oom_killed", Some(2), None), ("agent_lost", Some(1), None)]);
        assert!(retried(&policy, &Outcome::OomKilled, 1) && !retried(&policy, &Outcome::OomKilled, 2));
        assert!(!retried(&policy, &Outcome::AgentLost, 1));
        assert!(retried(&policy, &Outcome::RuntimeError, 3) && !retried(&policy, &Outcome::ExitCode(1), 1));
        let often = with(&[("exit_code", Some(9), Some(600))]);
        assert!(retried(&often, &Outcome::ExitCode(7), 8));
        let wait = |number| often.next_wait(&Outcome::ExitCode(7), number, 1.0);
        assert_eq!((wait(1), wait(5)), (Some(Duration::from_secs(600)), Some(Duration::from_secs(600))));
    }

    #[test]
    fn what_is_final_stays_final_whatever_the_policy_says() {
        let names = ["succeeded", "cancelled", "queue_timeout", "lost_too_often"];
        let mut policy = with(&names.map(|name| (name, Some(9), None)));
        policy.on = names.map(str::to_owned).to_vec();
        for outcome in Outcome::ALL.iter().filter(|outcome| names.contains(&outcome.name())) {
            assert!(outcome.is_final() && !retried(&policy, outcome, 1), "{outcome}");
        }
    }

    #[test]
    fn waits_double_up_to_the_cap() {
        let policy = RetryPolicy { attempts: 100, ..RetryPolicy::default() };
        let wait = |n| policy.next_wait(&Outcome::AgentLost, n, 1.0).expect("retried");
        assert_eq!(wait(1), Duration::from_secs(2));
        assert_eq!(wait(3), Duration::from_secs(8));
        assert_eq!(wait(60), Duration::from_secs(300));
    }

    proptest! {
        #[test]
        fn a_wait_is_between_half_and_all_of_what_it_grew_to(
            backoff in 0..100_000_u64, cap in 0..100_000_u64, number in 1..200_u32, jitter in -1.0..2.0_f64,
        ) {
            let [backoff, max_backoff] = [backoff, cap].map(Duration::from_millis);
            let policy = RetryPolicy { attempts: 200, backoff, max_backoff, ..RetryPolicy::default() };
            let wait = policy.next_wait(&Outcome::AgentLost, number, jitter);
            prop_assert_eq!(wait.is_some(), number < 200);
            if let Some(wait) = wait {
                let full = policy.next_wait(&Outcome::AgentLost, number, 1.0).expect("as before");
                prop_assert!(wait <= full && wait >= full / 2);
                prop_assert!(full <= max_backoff.max(backoff));
                prop_assert!(full >= policy.next_wait(&Outcome::AgentLost, 1, 1.0).expect("the first"));
            }
        }
    }
}
