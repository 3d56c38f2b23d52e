//! What can happen to a job.

use super::state::Ending;
use longshore_common::{
    ids::{AgentId, AttemptRef, Epoch},
    job::JobState,
};

/// How far an attempt has come, as its agent tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Preparing,
    Running,
    Collecting,
}

impl Phase {
    pub const fn state(self) -> JobState {
        match self {
            Self::Preparing => JobState::Preparing,
            Self::Running => JobState::Running,
            Self::Collecting => JobState::Collecting,
        }
    }

    /// `None` for the states that are no phase of an attempt.
    pub const fn of(state: JobState) -> Option<Self> {
        match state {
            JobState::Preparing => Some(Self::Preparing),
            JobState::Running => Some(Self::Running),
            JobState::Collecting => Some(Self::Collecting),
            JobState::Waiting
            | JobState::Queued
            | JobState::Claimed
            | JobState::Succeeded
            | JobState::Failed
            | JobState::Cancelled
            | JobState::TimedOut => None,
        }
    }
}

/// `jitter` is a random number in `0.0..1.0`, drawn outside, for the wait before a retry.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Claimed {
        agent: AgentId,
        epoch: Epoch,
    },
    Phase {
        attempt: AttemptRef,
        phase: Phase,
    },
    Finished {
        attempt: AttemptRef,
        ending: Ending,
        /// The agent's process or machine ended under it.
        died: bool,
        jitter: f64,
    },
    /// The agent leaves and gives the job back; no retry is spent.
    HandedBack {
        attempt: AttemptRef,
        detail: String,
    },
    /// The grant never came to its agent: no retry is spent.
    NotTaken {
        attempt: AttemptRef,
        detail: String,
        died: bool,
        jitter: f64,
    },
    /// The lease has run out, or the agent holds it no longer.
    AgentLost {
        attempt: AttemptRef,
        detail: String,
        /// The agent's process or machine is known to have ended under it.
        died: bool,
        jitter: f64,
    },
    CancelRequested {
        by: String,
        reason: String,
    },
    QueueDeadlinePassed,
    BackoffOver,
}

impl Event {
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Claimed { .. } => "claimed",
            Self::Phase { .. } => "phase",
            Self::Finished { .. } => "finished",
            Self::HandedBack { .. } => "handed_back",
            Self::NotTaken { .. } => "not_taken",
            Self::AgentLost { .. } => "agent_lost",
            Self::CancelRequested { .. } => "cancel_requested",
            Self::QueueDeadlinePassed => "queue_deadline_passed",
            Self::BackoffOver => "backoff_over",
        }
    }

    /// The attempt that speaks, if one does.
    pub const fn attempt(&self) -> Option<AttemptRef> {
        match self {
            Self::Phase { attempt, .. }
            | Self::Finished { attempt, .. }
            | Self::HandedBack { attempt, .. }
            | Self::NotTaken { attempt, .. }
            | Self::AgentLost { attempt, .. } => Some(*attempt),
            Self::Claimed { .. }
            | Self::CancelRequested { .. }
            | Self::QueueDeadlinePassed
            | Self::BackoffOver => None,
        }
    }
}
