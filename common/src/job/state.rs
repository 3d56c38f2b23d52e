//! The states of a job and of an attempt.

use serde::{Deserialize, Serialize};

/// Where a job stands. Terminal is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// For a dependency, or for the end of a backoff.
    Waiting,
    Queued,
    Claimed,
    Preparing,
    Running,
    Collecting,
    Succeeded,
    Failed,
    Cancelled,
    TimedOut,
}

/// A stored text that names no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a job state")]
pub struct UnknownState(pub String);

impl JobState {
    pub const ALL: [Self; 10] = [
        Self::Waiting,
        Self::Queued,
        Self::Claimed,
        Self::Preparing,
        Self::Running,
        Self::Collecting,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::TimedOut,
    ];

    /// The stored and shown text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Queued => "queued",
            Self::Claimed => "claimed",
            Self::Preparing => "preparing",
            Self::Running => "running",
            Self::Collecting => "collecting",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
        }
    }

    /// Those that a job stays in.
    pub fn ended() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|state| state.is_terminal())
    }

    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::TimedOut => true,
            Self::Waiting
            | Self::Queued
            | Self::Claimed
            | Self::Preparing
            | Self::Running
            | Self::Collecting => false,
        }
    }

    /// Under a live attempt.
    pub const fn is_held(self) -> bool {
        match self {
            Self::Claimed | Self::Preparing | Self::Running | Self::Collecting => true,
            Self::Waiting
            | Self::Queued
            | Self::Succeeded
            | Self::Failed
            | Self::Cancelled
            | Self::TimedOut => false,
        }
    }
}

impl std::fmt::Display for JobState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for JobState {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|s| s.as_str() == text).ok_or_else(|| UnknownState(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_reads_back() {
        for state in JobState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        assert!("done".parse::<JobState>().is_err());
    }
}
