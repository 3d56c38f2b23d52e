//! How work comes in: a hint or freed capacity leads to one claim at a time, its grants start, then the hints are
//! acknowledged. Never holds a hint while a job runs, never takes more than the machine offers.

use crate::{
    attempt::Attempts,
    link::{Claimed, Controller},
    machine::{Changes, Machine},
    slots::Slots,
};
use longshore_common::{
    agent::{LaneAnswer, Offer},
    fleet::Orders,
    ids::{ClaimId, ClusterId},
    queue::{Consumer, Hint, Lane},
    retry::Backoff,
    shutdown::Shutdown,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

/// Hints can be lost: this often it asks without one.
const SWEEP: Duration = Duration::from_secs(30);
/// How long the same claim is repeated. Its grants, if there were any, are nobody's soon after.
const REPEAT_FOR: Duration = Duration::from_secs(30);
/// After a claim that was refused, so that a disagreement with the controller does not become a storm.
const AFTER_FAILURE: Duration = Duration::from_secs(2);
/// A claim that found nothing and did not come to its lane's end is gone on with so soon, so that work behind ten
/// thousand jobs for other machines is found within seconds.
const SEARCHING: Duration = Duration::from_millis(150);
/// And for so many claims in a row. No lane is longer: after that it is a disagreement.
const SEARCHES: u32 = 200;
/// With this many attempts held their ends come in crowds: one claim for several costs a moment each and spares the
/// controller a transaction each.
const MANY: u32 = 32;
const LINGER: Duration = Duration::from_millis(3);
/// A GPU that was given back is free once it was looked at, which is a matter of milliseconds: so long a claim waits
/// for it, or two would be made. A driver that is slower is not waited for.
const LOOK: Duration = Duration::from_millis(200);
/// A lane whose jobs do not fit is asked again after this long, and then less and less often: new ones may fit.
const PARKED: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(5));

/// The way to the controller and its queue, as the link last said.
#[derive(Clone, Debug)]
pub struct Door {
    pub cluster: ClusterId,
    pub lanes: Vec<Lane>,
    pub consumer: Arc<dyn Consumer>,
    /// The link is up.
    pub open: bool,
}

/// The loop's parts.
#[derive(Debug)]
pub struct Intake {
    pub controller: Arc<dyn Controller>,
    pub machine: Arc<Machine>,
    pub slots: Slots,
    pub attempts: Attempts,
    pub door: watch::Receiver<Option<Door>>,
    /// What operators want of this machine.
    pub orders: watch::Receiver<Orders>,
    pub stop: Shutdown,
}

/// What the loop remembers.
#[derive(Debug)]
struct Memory {
    /// Not acknowledged yet.
    hints: Vec<Hint>,
    /// Lanes whose jobs do not fit, and when to ask again.
    parked: BTreeSet<Lane>,
    parking: Backoff,
    /// Claims in a row that found nothing and did not come to the end.
    searches: u32,
    listening: Vec<Lane>,
    /// UUIDs of GPUs that the last claim offered.
    offered: BTreeSet<String>,
    /// A claim may bring something.
    due: bool,
    next_ask: Instant,
}

impl Intake {
    /// Runs until it is stopped. Whatever was granted has been started when it returns.
    pub async fn run(mut self) {
        let mut changes = self.machine.changes();
        let stop = self.stop.clone();
        let mut memory = Memory {
            hints: Vec::new(),
            parked: BTreeSet::new(),
            parking: PARKED,
            searches: 0,
            listening: Vec::new(),
            offered: BTreeSet::new(),
            due: true,
            next_ask: Instant::now() + SWEEP,
        };
        while !stop.is_triggered() {
            let door = self.door.borrow_and_update().clone().filter(|door| door.open);
            let Some(door) = door else {
                memory.shut();
                tokio::select! {
                    () = stop.triggered() => break,
                    Ok(()) = self.door.changed() => continue,
                    else => break,
                }
            };
            self.listen(&door, &mut memory).await;
            if memory.due {
                self.claim(&door, &mut memory).await;
                continue;
            }
            tokio::select! {
                biased;
                () = stop.triggered() => break,
                Ok(()) = self.door.changed() => memory.listening.clear(),
                hint = door.consumer.next() => memory.rung(hint),
                () = self.slots.freed() => {
                    memory.due = true;
                    if self.slots.granted().attempts >= MANY {
                        sleep(LINGER).await;
                    }
                    // What was rung meanwhile is heard after it.
                    drop(timeout(LOOK, self.looked(&mut changes)).await);
                }
                Ok(()) = self.orders.changed() => {
                    self.orders.mark_unchanged();
                    memory.parked.clear();
                    memory.due = true;
                }
                () = changes.next() => memory.due = self.has_more(&door, &memory),
                () = sleep_until(memory.next_ask) => memory.due = true,
            }
        }
        let door = self.door.borrow().clone();
        if let Some(door) = door {
            // Best effort: the connection's end gives the hints back too.
            drop(door.consumer.release().await);
        }
    }

    /// From nothing to offer to something, or to another GPU: what rang meanwhile rang elsewhere, and what did not fit
    /// may.
    fn has_more(&self, door: &Door, memory: &Memory) -> bool {
        let Some(offer) = self.offer(&door.lanes) else { return false };
        memory.listening.is_empty() || offer.gpus.iter().any(|gpu| !memory.offered.contains(&gpu.uuid))
    }

    /// Returns when every GPU that was given back was looked at. Cancel-safe.
    async fn looked(&self, changes: &mut Changes) {
        while self.machine.has_leaving_gpus() {
            changes.next().await;
        }
    }

    /// What the machine would take, and may: of one that is set aside nothing.
    fn offer(&self, lanes: &[Lane]) -> Option<Offer> {
        let orders = self.orders.borrow();
        if orders.cordon.is_some() {
            return None;
        }
        let mut offer = self.machine.offer(lanes)?;
        let before = offer.gpus.len();
        offer.gpus.retain(|gpu| orders.of_gpu(gpu).is_none());
        let gone = u32::try_from(before - offer.gpus.len()).unwrap_or(u32::MAX);
        offer.free.gpus = offer.free.gpus.saturating_sub(gone);
        Some(offer)
    }

    /// Whether there is any use for a hint of this lane now.
    fn wants(&self, lane: &Lane) -> bool {
        let Some(offer) = self.offer(std::slice::from_ref(lane)) else { return false };
        // Beside a job that shares its GPU there may be room for another that does.
        let beside = || {
            let orders = self.orders.borrow();
            self.slots.granted().shared.iter().any(|uuid| !orders.gpus.contains_key(uuid))
        };
        !lane.is_gpu() || !offer.gpus.is_empty() || (lane.is_shared() && beside())
    }

    /// Consumes from the lanes this machine has room for.
    async fn listen(&self, door: &Door, memory: &mut Memory) {
        let wanted = |lane: &&Lane| !memory.parked.contains(lane) && self.wants(lane);
        let lanes: Vec<Lane> = door.lanes.iter().filter(wanted).cloned().collect();
        if lanes == memory.listening {
            return;
        }
        match door.consumer.consume(&lanes).await {
            Ok(()) => memory.listening = lanes,
            Err(error) => tracing::warn!(%error, "cannot listen to the queue; asking now and then instead"),
        }
    }

    /// One claim, repeated until it is answered; then its consequences.
    async fn claim(&mut self, door: &Door, memory: &mut Memory) {
        memory.due = false;
        memory.next_ask = Instant::now() + SWEEP;
        let offer = self.offer(&door.lanes);
        let gpus = offer.iter().flat_map(|offer| &offer.gpus);
        memory.offered = gpus.map(|gpu| gpu.uuid.clone()).collect();
        let Some(offer) = offer else {
            // Full, or nothing may run: others may have the work.
            if !memory.hints.is_empty() {
                memory.hints.clear();
                memory.listening.clear();
                drop(door.consumer.release().await);
            }
            return;
        };
        let (slots, asked_at) = (offer.slots, Instant::now());
        let Some(claimed) = self.ask(door, offer, memory).await else { return };
        let granted = claimed.grants.len();
        for grant in claimed.grants {
            for gpu in &grant.gpus {
                memory.offered.remove(gpu);
            }
            self.attempts.launch(door.cluster, grant, asked_at);
        }
        memory.answered(&claimed.lanes, granted, slots);
        // A lane is left before its hint is acknowledged, or the same work would ring here again.
        self.listen(door, memory).await;
        for hint in memory.hints.drain(..) {
            if let Err(error) = door.consumer.ack(hint).await {
                tracing::debug!(%error, "a hint will come again");
            }
        }
    }

    /// The answer to a claim; `None`: there is none, and the agent does something else first.
    async fn ask(&mut self, door: &Door, offer: Offer, memory: &mut Memory) -> Option<Claimed> {
        let claim = ClaimId::new();
        let hints = memory.counted();
        let give_up = Instant::now() + REPEAT_FOR;
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        loop {
            let error = match self.controller.claim(claim, offer.clone(), hints.clone()).await {
                Ok(claimed) => return Some(claimed),
                Err(error) => error,
            };
            if !memory.listening.is_empty() || !memory.hints.is_empty() {
                memory.hints.clear();
                memory.listening.clear();
                drop(door.consumer.release().await);
            }
            let over = !error.is_transient() || Instant::now() > give_up;
            let pause = if over { AFTER_FAILURE } else { backoff.next_wait() };
            tokio::select! {
                () = self.stop.triggered() => return None,
                () = sleep(pause) => {}
            }
            if over {
                tracing::warn!(%error, "claiming failed");
                memory.due = true;
                return None;
            }
        }
    }
}

impl Memory {
    /// The link is down: hints are void.
    fn shut(&mut self) {
        self.hints.clear();
        self.listening.clear();
        self.parked.clear();
        self.due = true;
    }

    fn rung(&mut self, hint: Hint) {
        self.hints.push(hint);
        self.due = true;
    }

    fn counted(&self) -> BTreeMap<Lane, u32> {
        let mut counted = BTreeMap::new();
        for hint in &self.hints {
            *counted.entry(hint.lane.clone()).or_default() += 1;
        }
        counted
    }

    fn answered(&mut self, lanes: &BTreeMap<Lane, LaneAnswer>, granted: usize, slots: u32) {
        let more = lanes.values().any(|answer| *answer == LaneAnswer::More);
        // With nothing granted, "more" is for a little later: asking at once would only spin.
        let parks = |answer: LaneAnswer| {
            answer == LaneAnswer::MoreButNotForYou || (answer == LaneAnswer::More && granted == 0)
        };
        self.parked =
            lanes.iter().filter(|(_, answer)| parks(**answer)).map(|(lane, _)| lane.clone()).collect();
        if self.parked.is_empty() || granted > 0 {
            self.parking.reset();
        }
        let searching = more && granted == 0;
        self.searches = if searching { self.searches.saturating_add(1) } else { 0 };
        if !self.parked.is_empty() {
            let soon = searching && self.searches <= SEARCHES;
            self.next_ask = Instant::now() + if soon { SEARCHING } else { self.parking.next_wait() };
        }
        self.due = more && granted > 0 && u32::try_from(granted).unwrap_or(u32::MAX) < slots;
    }
}
