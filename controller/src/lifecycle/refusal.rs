//! Why an event changes nothing.

use longshore_common::job::JobState;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another attempt speaks for the job now, or the job is gone.
    #[error("the attempt is no longer the job's latest")]
    Fenced,
    #[error("the job has ended already: {0}")]
    AlreadyFinished(JobState),
    /// The lease ran out. Not fenced: the finish call of the latest attempt is still taken.
    #[error("the attempt's lease has ended; the job is back in the queue")]
    Expired,
    #[error("the attempt's end was reported already")]
    AlreadyReported,
    /// A deadline or a backoff that has not passed.
    #[error("not yet")]
    NotYet,
    /// The same report would be refused again.
    #[error("manifest incomplete: {0}")]
    ManifestIncomplete(String),
    #[error("a job that is {from} cannot take `{event}`")]
    Illegal { from: JobState, event: &'static str },
}
