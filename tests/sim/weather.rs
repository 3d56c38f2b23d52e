//! What one machine's network and engine do to calls: how bad it is now, and the fate of each call. Chance comes from
//! the seed, the machine, the kind of call and how many of that kind there were.

use crate::dice::Dice;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

#[derive(Debug)]
pub(crate) struct Weather {
    seed: u64,
    seat: usize,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    /// Of a call to meet something.
    trouble: f64,
    calls: HashMap<&'static str, u64>,
    /// When the last repeat arrives.
    echoes_until: Option<Instant>,
}

/// What becomes of one call or message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Fine,
    /// It never arrives.
    Lost,
    /// It is carried out and its answer never arrives.
    AnswerLost,
    /// It arrives late, behind calls made after it.
    Late(Duration),
    /// Its answer does.
    AnswerLate(Duration),
    /// It arrives again later, when it may mean something else.
    Twice(Duration),
}

const LATE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(40));
const AGAIN: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1200));

impl Weather {
    pub(crate) fn new(seed: u64, seat: usize) -> Self {
        Self { seed, seat, now: Mutex::default() }
    }

    pub(crate) fn set(&self, trouble: f64) {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).trouble = trouble;
    }

    pub(crate) fn is_fine(&self) -> bool {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).trouble == 0.0
    }

    pub(crate) fn fate(&self, kind: &'static str) -> Fate {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let count = now.calls.entry(kind).or_default();
        *count += 1;
        let mut dice = Dice::of(self.seed, (self.seat, kind, *count));
        if !dice.chance(now.trouble) {
            return Fate::Fine;
        }
        match dice.below(5) {
            0 => Fate::Lost,
            1 => Fate::AnswerLost,
            2 => Fate::Late(dice.length(LATE.0, LATE.1)),
            3 => Fate::AnswerLate(dice.length(LATE.0, LATE.1)),
            _ => {
                let pause = dice.length(AGAIN.0, AGAIN.1);
                now.echoes_until = now.echoes_until.max(Some(Instant::now() + pause));
                Fate::Twice(pause)
            }
        }
    }

    pub(crate) fn echoes_until(&self) -> Option<Instant> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).echoes_until
    }
}
