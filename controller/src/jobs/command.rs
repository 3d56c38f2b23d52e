//! What the writer is asked to do, with the way back for the answer.

use super::{
    batches::{BatchError, CheckedBatch, MadeBatch},
    chores::Chore,
    error::Error,
    fleet::Change,
    remove::Removal,
    submit::Checked,
    types::{ClaimCommand, Claimed, Removed, SubmitError, Submitted},
};
use crate::{
    actions::{self, Changed, Order},
    lifecycle::{Event, Refusal},
};
use longshore_common::{
    agent::{FinishReport, HeldAttempt},
    ids::JobId,
};
use tokio::sync::oneshot;

/// A question, its answer once it is found, and who waits for it.
#[derive(Debug)]
pub(super) struct Call<I, O> {
    pub(super) input: I,
    pub(super) answer: Option<O>,
    reply: oneshot::Sender<Result<O, Error>>,
}

impl<I, O> Call<I, O> {
    pub(super) fn new(input: I) -> (Self, oneshot::Receiver<Result<O, Error>>) {
        let (reply, answer) = oneshot::channel();
        (Self { input, answer: None, reply }, answer)
    }

    /// Whoever asked may have gone: what was committed stays committed.
    fn settle(self, result: Result<(), Error>) {
        let answer = result.and_then(|()| self.answer.ok_or(Error::Closed));
        drop(self.reply.send(answer));
    }
}

pub(super) type Results<T, E> = Vec<Result<T, E>>;

#[derive(Debug)]
pub(super) enum Command {
    Submit(Call<Vec<Checked>, Results<Submitted, SubmitError>>),
    Batch(Call<CheckedBatch, Result<MadeBatch, BatchError>>),
    Claim(Call<ClaimCommand, Claimed>),
    Phases(Call<Vec<HeldAttempt>, ()>),
    Finish(Call<Vec<FinishReport>, Results<(), Refusal>>),
    /// Cancels, deadlines, ends of backoffs, lost agents.
    Events(Call<Vec<(JobId, Event)>, Results<(), Refusal>>),
    Remove(Call<Removal, Removed>),
    Chore(Call<Chore, u32>),
    /// What operators want of machines and projects. Answers the revision of the last event.
    Fleet(Call<Change, u64>),
    Action(Call<Order, Result<Changed, actions::Error>>),
}

impl Command {
    pub(super) fn settle(self, result: Result<(), Error>) {
        match self {
            Self::Submit(call) => call.settle(result),
            Self::Batch(call) => call.settle(result),
            Self::Claim(call) => call.settle(result),
            Self::Phases(call) => call.settle(result),
            Self::Finish(call) => call.settle(result),
            Self::Events(call) => call.settle(result),
            Self::Remove(call) => call.settle(result),
            Self::Chore(call) => call.settle(result),
            Self::Fleet(call) => call.settle(result),
            Self::Action(call) => call.settle(result),
        }
    }
}
