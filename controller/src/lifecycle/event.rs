//! What can happen to a job.

use super::state::Ending;
use longshore_common::{
    clock::Timestamp,
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

/// An attempt that its agent does not have any more.
#[derive(Clone, Debug, PartialEq)]
pub struct Loss {
    pub attempt: AttemptRef,
    pub detail: String,
    /// The agent's process or machine is known to have ended under it.
    pub died: bool,
    pub jitter: f64,
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
    NotTaken(Loss),
    /// The lease has run out, or the agent holds it no longer.
    AgentLost(Loss),
    /// An agent that was silent until others had the job turns out to have died under it.
    AgentDied {
        agent: AgentId,
    },
    CancelRequested {
        by: String,
        reason: String,
    },
    QueueDeadlinePassed,
    /// The time before which it may not begin is over, too.
    BackoffOver,
    /// Its batch lets it go. From now on an agent has until then to claim it.
    TurnCame {
        queue_deadline: Option<Timestamp>,
    },
    /// All jobs that it waits for have ended as they should. From now on it is its queue that it waits in: until then.
    DependenciesMet {
        queue_deadline: Option<Timestamp>,
    },
    /// One of them has not, and never will.
    DependencyFailed {
        detail: String,
    },
}

impl Event {
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Claimed { .. } => "claimed",
            Self::Phase { .. } => "phase",
            Self::Finished { .. } => "finished",
            Self::HandedBack { .. } => "handed_back",
            Self::NotTaken(_) => "not_taken",
            Self::AgentLost(_) => "agent_lost",
            Self::AgentDied { .. } => "agent_died",
            Self::CancelRequested { .. } => "cancel_requested",
            Self::QueueDeadlinePassed => "queue_deadline_passed",
            Self::BackoffOver => "backoff_over",
            Self::TurnCame { .. } => "turn_came",
            Self::DependenciesMet { .. } => "dependencies_met",
            Self::DependencyFailed { .. } => "dependency_failed",
        }
    }

    /// The attempt that speaks, if one does.
    pub const fn attempt(&self) -> Option<AttemptRef> {
        match self {
            Self::Phase { attempt, .. }
            | Self::Finished { attempt, .. }
            | Self::HandedBack { attempt, .. }
            | Self::NotTaken(Loss { attempt, .. })
            | Self::AgentLost(Loss { attempt, .. }) => Some(*attempt),
            Self::Claimed { .. }
            | Self::AgentDied { .. }
            | Self::CancelRequested { .. }
            | Self::QueueDeadlinePassed
            | Self::BackoffOver
            | Self::TurnCame { .. }
            | Self::DependenciesMet { .. }
            | Self::DependencyFailed { .. } => None,
        }
    }
}
