//! Means over the last while, and values that do not flutter.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// A mean over a length of time. What was not measured counts as zero, so it says nothing too early.
#[derive(Debug)]
pub(super) struct Window {
    length: Duration,
    samples: VecDeque<Sample>,
}

#[derive(Debug)]
struct Sample {
    at: Instant,
    /// For how long it stands.
    length: Duration,
    value: u64,
}

impl Window {
    pub(super) const fn new(length: Duration) -> Self {
        Self { length, samples: VecDeque::new() }
    }

    /// `value` stood for `length` until `now`.
    pub(super) fn add(&mut self, now: Instant, length: Duration, value: u64) {
        self.samples.push_back(Sample { at: now, length: length.min(self.length), value });
        while self.samples.front().is_some_and(|sample| now.duration_since(sample.at) >= self.length) {
            self.samples.pop_front();
        }
    }

    pub(super) fn mean(&self) -> u64 {
        let sum: u128 =
            self.samples.iter().map(|sample| sample.length.as_micros() * u128::from(sample.value)).sum();
        u64::try_from(sum / self.length.as_micros().max(1)).unwrap_or(u64::MAX)
    }

    pub(super) fn clear(&mut self) {
        self.samples.clear();
    }
}

/// Follows a value, but only where it has moved by more than a band.
#[derive(Debug)]
pub(super) struct Steady {
    band: u64,
    value: u64,
}

impl Steady {
    pub(super) const fn new(band: u64) -> Self {
        Self { band, value: 0 }
    }

    pub(super) const fn follow(&mut self, measured: u64) -> u64 {
        if measured.abs_diff(self.value) > self.band {
            self.value = measured;
        }
        self.value
    }
}
