//! What follows from a step, as data. The commands write it down and tell others after the commit.

use super::state::Ending;
use longshore_common::{
    ids::{AgentId, AttemptRef},
    job::JobState,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Claimable from now on.
    Queued,
    AttemptOpened {
        attempt: AttemptRef,
        agent: AgentId,
    },
    AttemptMoved {
        attempt: AttemptRef,
        phase: JobState,
    },
    /// `reported`: by its agent; manifest and log end are committed with it.
    AttemptClosed {
        attempt: AttemptRef,
        ending: Ending,
        reported: bool,
    },
    /// Tell the agent; its heartbeat is told again until the attempt is closed.
    Stop {
        agent: AgentId,
        attempt: AttemptRef,
        reason: String,
    },
    /// The job has ended, for ever.
    Ended,
}
