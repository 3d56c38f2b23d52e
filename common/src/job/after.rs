//! Jobs that a job waits for, and how these must end. Decides nothing about a job's state.

use super::state::JobState;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A job that must have ended before this one begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct After {
    /// As it was said; after submit its short id.
    pub job: String,
    pub when: When,
}

/// How it must have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum When {
    #[default]
    Succeeded,
    /// By itself, and not well: a cancelled one has not failed.
    Failed,
    /// In whatever way.
    Finished,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not how a job ends; write succeeded, failed or finished")]
pub struct UnknownWhen(String);

impl When {
    pub const ALL: [Self; 3] = [Self::Succeeded, Self::Failed, Self::Finished];

    /// The stored and shown text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Finished => "finished",
        }
    }

    /// Whether a job in this state has ended so; `None`: it has not ended.
    pub const fn holds(self, state: JobState) -> Option<bool> {
        if !state.is_terminal() {
            return None;
        }
        Some(match self {
            Self::Succeeded => matches!(state, JobState::Succeeded),
            Self::Failed => matches!(state, JobState::Failed | JobState::TimedOut),
            Self::Finished => true,
        })
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for When {
    type Err = UnknownWhen;

    fn from_str(text: &str) -> Result<Self, UnknownWhen> {
        Self::ALL.into_iter().find(|when| when.as_str() == text).ok_or_else(|| UnknownWhen(text.to_owned()))
    }
}

/// `k3m9q2xw` or `k3m9q2xw:failed`.
impl FromStr for After {
    type Err = UnknownWhen;

    fn from_str(text: &str) -> Result<Self, UnknownWhen> {
        match text.split_once(':') {
            Some((job, when)) => Ok(Self { job: job.to_owned(), when: when.parse()? }),
            None => Ok(Self { job: text.to_owned(), when: When::default() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancelled_job_has_finished_and_not_failed() {
        use JobState as S;
        for (state, wanted) in [
            (S::Succeeded, [Some(true), Some(false), Some(true)]),
            (S::Failed, [Some(false), Some(true), Some(true)]),
            (S::TimedOut, [Some(false), Some(true), Some(true)]),
            (S::Cancelled, [Some(false), Some(false), Some(true)]),
            (S::Running, [None; 3]),
        ] {
            assert_eq!(When::ALL.map(|when| when.holds(state)), wanted, "{state}");
        }
    }

    #[test]
    fn a_flag_names_a_job_and_how_it_ends() {
        let after = |job: &str, when| Ok(After { job: job.to_owned(), when });
        assert_eq!("k3m9q2xw".parse(), after("k3m9q2xw", When::Succeeded));
        assert_eq!("train:failed".parse(), after("train", When::Failed));
        assert!("train:later".parse::<After>().is_err());
    }
}
