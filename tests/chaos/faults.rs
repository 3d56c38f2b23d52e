//! What the monkey will do, decided before it begins: the same seed is the same plan. Pure.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use std::time::Duration;

/// A process that can be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    Controller,
    Agent(usize),
    Broker,
    Engine,
    Store,
}

/// A connection that can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Link {
    Agent(usize),
    ControllerBroker,
    AgentsBroker,
    Store,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// SIGKILL, and later a start. An engine comes back with or without live-restore.
    Kill { part: Part, live_restore: bool },
    /// SIGSTOP, and later SIGCONT.
    Pause(Part),
    /// Connections end, and new ones too.
    Cut(Link),
    /// Connections stay, and nothing gets through.
    Freeze(Link),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fault {
    pub(crate) what: What,
    pub(crate) from: Duration,
    pub(crate) to: Duration,
}

pub(crate) const PARTS: [Part; 6] =
    [Part::Controller, Part::Agent(0), Part::Agent(1), Part::Broker, Part::Engine, Part::Store];
pub(crate) const LINKS: [Link; 5] =
    [Link::Agent(0), Link::Agent(1), Link::ControllerBroker, Link::AgentsBroker, Link::Store];

/// An agent that is away for longer than its lease and the controller's grace.
const LOST: std::ops::Range<f64> = 31.0..37.0;
/// Between two faults, on average.
const PACE: f64 = 5.5;
/// So that there is something to disturb.
const FIRST: f64 = 4.0;

/// Rounds in which every part is killed once, and as many other things happen.
pub(crate) fn plan(seed: u64, length: Duration) -> Vec<Fault> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut faults: Vec<Fault> = Vec::new();
    let mut at = FIRST;
    while at < length.as_secs_f64() {
        for (what, lasts) in round(&mut random) {
            // What is broken is not broken again before it was whole for a moment.
            let free = faults
                .iter()
                .filter(|fault| same(fault.what, what))
                .map(|fault| fault.to.as_secs_f64() + 1.0);
            let from = free.fold(at, f64::max);
            if from < length.as_secs_f64() {
                let (from, to) = (Duration::from_secs_f64(from), Duration::from_secs_f64(from + lasts));
                faults.push(Fault { what, from, to });
            }
            at += PACE * random.random_range(0.6..1.4);
        }
    }
    faults.sort_by_key(|fault| fault.from);
    faults
}

fn round(random: &mut StdRng) -> Vec<(What, f64)> {
    // One of the agents stays away until its jobs are given to the other.
    let lost = random.random_range(0..2);
    let mut round = Vec::new();
    for part in PARTS {
        let lasts = if part == Part::Agent(lost) { LOST } else { 0.2..7.0 };
        let what = What::Kill { part, live_restore: random.random_bool(0.5) };
        round.push((what, random.random_range(lasts)));
    }
    for _ in 0..3 {
        let part = PARTS[random.random_range(0..PARTS.len())];
        round.push((What::Pause(part), random.random_range(2.0..20.0)));
        let link = LINKS[random.random_range(0..LINKS.len())];
        let what = if random.random_bool(0.5) { What::Cut(link) } else { What::Freeze(link) };
        round.push((what, random.random_range(1.0..15.0)));
    }
    round.shuffle(random);
    round
}

/// Whether both are done to the same thing.
fn same(one: What, other: What) -> bool {
    match (one, other) {
        (What::Kill { part: a, .. } | What::Pause(a), What::Kill { part: b, .. } | What::Pause(b)) => a == b,
        (What::Cut(a) | What::Freeze(a), What::Cut(b) | What::Freeze(b)) => a == b,
        _ => false,
    }
}
