//! Hints that have arrived and were not handed out yet. Never waits with its lock held; holds at most one hint
//! per lane in practice, because both queues give an agent one unacknowledged hint per lane.

use super::{Hint, Lane};
use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(super) struct Inbox {
    hints: Mutex<VecDeque<Hint>>,
    bell: Notify,
}

impl Inbox {
    pub(super) fn push(&self, hint: Hint) {
        self.lock().push_back(hint);
        self.bell.notify_one();
    }

    /// The next hint. Cancel-safe: a hint leaves the inbox only with the caller.
    pub(super) async fn next(&self) -> Hint {
        loop {
            let ringing = self.bell.notified();
            if let Some(hint) = self.pop() {
                return hint;
            }
            ringing.await;
        }
    }

    /// Takes back what was not handed out of a lane.
    pub(super) fn retract(&self, lane: &Lane) -> Vec<Hint> {
        let mut hints = self.lock();
        let (gone, kept) = hints.drain(..).partition(|hint| hint.lane == *lane);
        *hints = kept;
        gone.into()
    }

    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn pop(&self) -> Option<Hint> {
        let mut hints = self.lock();
        let hint = hints.pop_front();
        // One bell may stand for several hints: pass it on to another caller of `next`.
        if !hints.is_empty() {
            self.bell.notify_one();
        }
        hint
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Hint>> {
        self.hints.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
