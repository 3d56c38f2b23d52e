//! What the rules know of a job.

use super::refusal::Refusal;
use longshore_common::{
    clock::Timestamp,
    ids::{AgentId, AttemptRef, JobId},
    job::{JobState, Outcome, RetryPolicy},
};
use std::collections::BTreeSet;

/// What somebody wants of the job; `JobState` is what is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Desired {
    Run,
    Cancel { by: String, reason: String },
}

impl Desired {
    pub const fn is_cancel(&self) -> bool {
        matches!(self, Self::Cancel { .. })
    }

    /// `cancelled by anna: wrong data`
    pub fn sentence(&self) -> String {
        match self {
            Self::Run => String::new(),
            Self::Cancel { by, reason } if reason.is_empty() => format!("cancelled by {by}"),
            Self::Cancel { by, reason } => format!("cancelled by {by}: {reason}"),
        }
    }
}

/// How a job or an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    pub outcome: Outcome,
    /// What happened, to which thing.
    pub detail: String,
}

/// The attempt that speaks for the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latest {
    pub attempt: AttemptRef,
    pub agent: AgentId,
    /// Its agent has reported the end.
    pub reported: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub id: JobId,
    pub state: JobState,
    pub desired: Desired,
    /// How many attempts there were; the number of the last one.
    pub attempts: u32,
    /// Of these, how many were handed back or never taken: they spend no retry.
    pub handed_back: u32,
    /// Agents whose process or machine ended while they had the job.
    pub died_on: BTreeSet<AgentId>,
    pub latest: Option<Latest>,
    /// It waits for other jobs.
    pub blocked: bool,
    /// Its batch has not let it go yet.
    pub awaits_turn: bool,
    /// When it may begin, or the end of a backoff.
    pub not_before: Option<Timestamp>,
    /// Until the first claim. None while it waits for other jobs: that is no queue.
    pub queue_deadline: Option<Timestamp>,
    pub ending: Option<Ending>,
    pub finished_at: Option<Timestamp>,
    pub retry: RetryPolicy,
}

impl Job {
    /// A job as `submit` makes it.
    pub fn new(id: JobId, retry: RetryPolicy, queue_deadline: Option<Timestamp>) -> Self {
        Self {
            id,
            state: JobState::Queued,
            desired: Desired::Run,
            attempts: 0,
            handed_back: 0,
            died_on: BTreeSet::new(),
            latest: None,
            blocked: false,
            awaits_turn: false,
            not_before: None,
            queue_deadline,
            ending: None,
            finished_at: None,
            retry,
        }
    }

    /// It begins after others, and is in no queue before.
    #[must_use]
    pub fn behind_others(self) -> Self {
        Self { state: JobState::Waiting, blocked: true, queue_deadline: None, ..self }
    }

    /// It begins at this time at the earliest.
    #[must_use]
    pub fn not_before(self, at: Timestamp) -> Self {
        Self { state: JobState::Waiting, not_before: Some(at), ..self }
    }

    /// It begins when its batch lets it go; nobody has asked an agent for it before.
    #[must_use]
    pub fn in_turn(self) -> Self {
        Self { state: JobState::Waiting, awaits_turn: true, queue_deadline: None, ..self }
    }

    /// Nothing but its batch keeps it.
    pub fn wants_turn(&self) -> bool {
        self.awaits_turn && !self.blocked && self.not_before.is_none() && self.state == JobState::Waiting
    }

    /// Whether `attempt` may speak for the job.
    pub fn check(&self, attempt: AttemptRef) -> Result<&Latest, Refusal> {
        self.latest.as_ref().filter(|latest| latest.attempt == attempt).ok_or(Refusal::Fenced)
    }
}
