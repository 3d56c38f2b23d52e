//! The controller's half: counts hints per lane and gives them to agents that listen, one unacknowledged hint per
//! agent and lane, agents on their native lane first, then in turn. All decisions are synchronous under one lock.

use super::{Turn, Work};
use crate::{
    queue::{Error, Lane, Publisher},
    units::plural,
};
use async_trait::async_trait;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// The queue itself. Clones are the same hub.
#[derive(Clone, Debug, Default)]
pub struct Hub(Arc<Mutex<State>>);

/// One agent's link as the hub sees it. Dropping it gives back every hint the agent held.
#[derive(Debug)]
pub struct Line {
    hub: Hub,
    id: u64,
    bell: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    /// Hints nobody has yet.
    ready: BTreeMap<Lane, u32>,
    agents: BTreeMap<u64, Agent>,
    next_id: u64,
    /// Who got the last hint of a lane: the search for the next one starts behind it.
    last: BTreeMap<Lane, u64>,
}

#[derive(Debug)]
struct Agent {
    has_gpus: bool,
    lanes: BTreeSet<Lane>,
    /// Given and not yet acknowledged.
    held: BTreeMap<Lane, u32>,
    /// Given and not yet sent.
    outbox: VecDeque<Lane>,
    bell: Arc<Notify>,
}

impl Hub {
    pub fn new() -> Self {
        Self::default()
    }

    /// An agent's link is up. It listens to nothing until its first `turn`.
    pub fn connect(&self, has_gpus: bool) -> Line {
        let bell = Arc::new(Notify::new());
        let mut state = self.lock();
        let id = state.next_id;
        state.next_id += 1;
        let agent = Agent {
            has_gpus,
            lanes: BTreeSet::new(),
            held: BTreeMap::new(),
            outbox: VecDeque::new(),
            bell: Arc::clone(&bell),
        };
        state.agents.insert(id, agent);
        Line { hub: self.clone(), id, bell }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// What to send down the link next. Cancel-safe; for one caller at a time.
    pub async fn next(&self) -> Work {
        loop {
            let ringing = self.bell.notified();
            if let Some(lane) = self.hub.lock().take(self.id) {
                return Work { lane, hints: 1 };
            }
            ringing.await;
        }
    }

    /// The agent has spoken.
    pub fn turn(&self, turn: Turn) {
        self.hub.lock().turn(self.id, turn);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.hub.lock().leave(self.id);
    }
}

impl State {
    fn take(&mut self, id: u64) -> Option<Lane> {
        self.agents.get_mut(&id)?.outbox.pop_front()
    }

    fn turn(&mut self, id: u64, turn: Turn) {
        let Some(agent) = self.agents.get_mut(&id) else { return };
        let mut touched: BTreeSet<Lane> = turn.lanes.iter().cloned().collect();
        agent.lanes = touched.clone();
        let mut back: Vec<(Lane, u32)> = Vec::new();
        for (lane, count) in turn.acked {
            agent.spend(&lane, count);
            touched.insert(lane);
        }
        for (lane, count) in turn.returned {
            let count = agent.spend(&lane, count);
            back.push((lane, count));
        }
        // Given and not sent: a lane that was left takes it back at once.
        let lanes = &agent.lanes;
        let (unsent, stay): (VecDeque<Lane>, VecDeque<Lane>) =
            agent.outbox.drain(..).partition(|lane| !lanes.contains(lane));
        agent.outbox = stay;
        for lane in unsent {
            let count = agent.spend(&lane, 1);
            back.push((lane, count));
        }
        for (lane, count) in back {
            self.put_back(&lane, count);
            touched.insert(lane);
        }
        for lane in touched {
            self.deliver(&lane);
        }
    }

    fn leave(&mut self, id: u64) {
        let Some(agent) = self.agents.remove(&id) else { return };
        for (lane, count) in agent.held {
            self.put_back(&lane, count);
            self.deliver(&lane);
        }
    }

    fn put_back(&mut self, lane: &Lane, count: u32) {
        let ready = self.ready.entry(lane.clone()).or_default();
        *ready = ready.saturating_add(count);
    }

    /// Gives ready hints to agents that listen and have none of this lane.
    fn deliver(&mut self, lane: &Lane) {
        while self.ready.get(lane).copied().unwrap_or(0) > 0 {
            let Some(id) = self.pick(lane) else { return };
            let Some(agent) = self.agents.get_mut(&id) else { return };
            *agent.held.entry(lane.clone()).or_default() += 1;
            agent.outbox.push_back(lane.clone());
            agent.bell.notify_one();
            self.last.insert(lane.clone(), id);
            if let Some(ready) = self.ready.get_mut(lane) {
                *ready -= 1;
            }
        }
    }

    fn pick(&self, lane: &Lane) -> Option<u64> {
        let last = self.last.get(lane).copied().unwrap_or(u64::MAX);
        self.agents
            .iter()
            .filter(|(_, agent)| agent.lanes.contains(lane) && !agent.held.contains_key(lane))
            .min_by_key(|(id, agent)| (agent.has_gpus != lane.is_gpu(), **id <= last, **id))
            .map(|(id, _)| *id)
    }
}

impl Agent {
    /// Forgets up to `count` held hints of a lane and says how many it had.
    fn spend(&mut self, lane: &Lane, count: u32) -> u32 {
        let Some(held) = self.held.get_mut(lane) else { return 0 };
        let spent = count.min(*held);
        *held -= spent;
        if *held == 0 {
            self.held.remove(lane);
        }
        spent
    }
}

#[async_trait]
impl Publisher for Hub {
    async fn declare(&self, _lanes: &[Lane]) -> Result<(), Error> {
        Ok(())
    }

    async fn publish(&self, lane: &Lane, count: u32) -> Result<u32, Error> {
        let mut state = self.lock();
        state.put_back(lane, count);
        state.deliver(lane);
        Ok(count)
    }

    async fn waiting(&self, lane: &Lane) -> Result<u32, Error> {
        Ok(self.lock().ready.get(lane).copied().unwrap_or(0))
    }

    async fn health(&self) -> Result<String, Error> {
        let count = self.lock().agents.len();
        Ok(format!("embedded, {} linked", plural(count as u64, "agent", "agents")))
    }
}
