//! The agent's half: fed by whoever owns the link, which also sends what `next_turn` gives.

use super::{Turn, Work};
use crate::queue::{Consumer, Error, Hint, Lane, inbox::Inbox};
use async_trait::async_trait;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub struct LinkConsumer {
    state: Mutex<State>,
    inbox: Inbox,
    bell: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Counts links; zero: never connected.
    generation: u64,
    connected: bool,
    lanes: BTreeSet<Lane>,
    /// Arrived over this link and neither acknowledged nor returned.
    open: BTreeMap<u64, Lane>,
    next_tag: u64,
    acked: BTreeMap<Lane, u32>,
    returned: BTreeMap<Lane, u32>,
    /// There is something to say.
    due: bool,
}

impl LinkConsumer {
    pub fn new() -> Self {
        Self::default()
    }

    /// A link is up: hints of the one before are void, and the lanes are due to be told.
    pub fn connected(&self) {
        self.change(|state| {
            state.start_over();
            state.generation += 1;
            state.connected = true;
            state.due = true;
        });
    }

    /// The link is gone; the controller gives its hints to others.
    pub fn disconnected(&self) {
        self.change(|state| {
            state.start_over();
            state.connected = false;
        });
    }

    /// `Work` came down the link.
    pub fn work(&self, work: &Work) {
        for _ in 0..work.hints {
            // Pushed under the lock, so that a lane being left cannot overlook it.
            self.change(|state| state.arrive(&work.lane).map(|hint| self.inbox.push(hint)));
        }
    }

    /// What to send up the link next; waits until there is something. Cancel-safe; what it gave is gone, so a
    /// link that fails to send it must end.
    pub async fn next_turn(&self) -> Turn {
        loop {
            let ringing = self.bell.notified();
            if let Some(turn) = self.lock().take_turn() {
                return turn;
            }
            ringing.await;
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let before = state.generation;
        let was_connected = state.connected;
        let result = change(&mut state);
        if state.generation != before || was_connected != state.connected {
            self.inbox.clear();
        }
        if state.connected && state.due {
            self.bell.notify_one();
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn start_over(&mut self) {
        self.open.clear();
        self.acked.clear();
        self.returned.clear();
    }

    fn arrive(&mut self, lane: &Lane) -> Option<Hint> {
        if !self.connected {
            return None;
        }
        if !self.lanes.contains(lane) {
            // It was on its way when the lane was left.
            self.give_back(lane);
            return None;
        }
        self.next_tag += 1;
        self.open.insert(self.next_tag, lane.clone());
        Some(Hint { lane: lane.clone(), tag: self.next_tag, generation: self.generation })
    }

    fn give_back(&mut self, lane: &Lane) {
        *self.returned.entry(lane.clone()).or_default() += 1;
        self.due = true;
    }

    fn take_turn(&mut self) -> Option<Turn> {
        if !(self.connected && self.due) {
            return None;
        }
        self.due = false;
        Some(Turn {
            lanes: self.lanes.iter().cloned().collect(),
            acked: std::mem::take(&mut self.acked),
            returned: std::mem::take(&mut self.returned),
        })
    }
}

#[async_trait]
impl Consumer for LinkConsumer {
    async fn consume(&self, lanes: &[Lane]) -> Result<(), Error> {
        self.change(|state| {
            let wanted: BTreeSet<Lane> = lanes.iter().cloned().collect();
            if wanted == state.lanes {
                return;
            }
            for left in state.lanes.difference(&wanted) {
                for hint in self.inbox.retract(left) {
                    if state.open.remove(&hint.tag).is_some() {
                        *state.returned.entry(hint.lane).or_default() += 1;
                    }
                }
            }
            state.lanes = wanted;
            state.due = true;
        });
        Ok(())
    }

    async fn next(&self) -> Hint {
        self.inbox.next().await
    }

    async fn ack(&self, hint: Hint) -> Result<(), Error> {
        self.change(|state| {
            if hint.generation == state.generation && state.open.remove(&hint.tag).is_some() {
                *state.acked.entry(hint.lane).or_default() += 1;
                state.due = true;
            }
        });
        Ok(())
    }

    async fn release(&self) -> Result<(), Error> {
        self.change(|state| {
            self.inbox.clear();
            for lane in std::mem::take(&mut state.open).into_values() {
                *state.returned.entry(lane).or_default() += 1;
            }
            state.lanes.clear();
            state.due = true;
        });
        Ok(())
    }
}
