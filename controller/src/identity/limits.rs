//! How fast one token may call, and how fast one address may be wrong.

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use longshore_common::ids::AgentId;
use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr, num::NonZeroU32, time::Duration};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Calls of one token in a second, over time.
    pub calls_per_second: NonZeroU32,
    /// Calls of one token at once.
    pub burst: NonZeroU32,
    /// Refused credentials from one address in a minute.
    pub failures_per_minute: NonZeroU32,
    /// Calls of one agent in a second, over time; at once it may make five times as many.
    pub agent_calls_per_second: NonZeroU32,
    /// How often a call that waits and a stream that is open ask whether their token is still good.
    pub recheck_every: Duration,
}

const fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).expect("a constant that is not zero")
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // A service that follows a thousand jobs; a batch of jobs is one call.
            calls_per_second: number(1_000),
            burst: number(5_000),
            // A person who pastes the wrong token a few times, not a program that guesses.
            failures_per_minute: number(20),
            // A machine that starts and ends hundreds of jobs a second; its calls carry batches.
            agent_calls_per_second: number(2_000),
            // Whoever revokes a token looks for a moment whether it helped.
            recheck_every: Duration::from_secs(15),
        }
    }
}

pub struct Limits {
    calls: DefaultKeyedRateLimiter<String>,
    failures: DefaultKeyedRateLimiter<IpAddr>,
    joins: DefaultKeyedRateLimiter<IpAddr>,
    agents: DefaultKeyedRateLimiter<AgentId>,
    recheck: Duration,
}

/// Machines that join from one address in a second, over time and at once: a fleet behind one router.
const JOINS: (NonZeroU32, NonZeroU32) = (number(20), number(1_000));

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").finish_non_exhaustive()
    }
}

impl Limits {
    pub fn new(config: &Config) -> Self {
        Self {
            calls: RateLimiter::keyed(Quota::per_second(config.calls_per_second).allow_burst(config.burst)),
            failures: RateLimiter::keyed(Quota::per_minute(config.failures_per_minute)),
            joins: RateLimiter::keyed(Quota::per_second(JOINS.0).allow_burst(JOINS.1)),
            agents: RateLimiter::keyed(
                Quota::per_second(config.agent_calls_per_second)
                    .allow_burst(config.agent_calls_per_second.saturating_mul(number(5))),
            ),
            recheck: config.recheck_every,
        }
    }

    /// Whether this token may make one more call now.
    pub fn may_call(&self, token: &str) -> bool {
        self.calls.check_key(&token.to_owned()).is_ok()
    }

    /// Whether this agent may make one more call now.
    pub fn agent_may_call(&self, agent: AgentId) -> bool {
        self.agents.check_key(&agent).is_ok()
    }

    /// Between two looks at the token of what is open.
    pub const fn recheck(&self) -> Duration {
        self.recheck
    }

    /// Whether this address may be wrong once more now.
    pub fn may_fail(&self, address: IpAddr) -> bool {
        self.failures.check_key(&address).is_ok()
    }

    /// Whether one more machine may ask from this address to be let in.
    pub fn may_knock(&self, address: IpAddr) -> bool {
        self.joins.check_key(&address).is_ok()
    }

    /// Forgets those that are at rest.
    pub fn sweep(&self) {
        self.calls.retain_recent();
        self.failures.retain_recent();
        self.joins.retain_recent();
        self.agents.retain_recent();
    }
}
