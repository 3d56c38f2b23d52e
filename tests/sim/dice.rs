//! Chance that a seed repeats. The monkey throws dice in order; what the network does to a call is drawn from the
//! seed, the machine and the number of the call alone, so that one more call elsewhere changes no other call's fate.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::{
    hash::{DefaultHasher, Hash, Hasher as _},
    time::Duration,
};

#[derive(Debug)]
pub(crate) struct Dice(StdRng);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// Dice for one event of this seed.
    pub(crate) fn of(seed: u64, event: impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        (seed, event).hash(&mut hasher);
        Self::new(hasher.finish())
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0.random_range(0..end)
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.0.random_bool(probability)
    }

    /// Any length between two, short ones as likely as long ones.
    pub(crate) fn length(&mut self, least: Duration, most: Duration) -> Duration {
        let (least, most) = (least.as_secs_f64().ln(), most.as_secs_f64().ln());
        Duration::from_secs_f64(self.0.random_range(least..most).exp())
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        if of.is_empty() { None } else { of.get(self.below(of.len())) }
    }
}
