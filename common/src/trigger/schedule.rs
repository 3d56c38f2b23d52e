//! When a clock fires. The pattern is read and matched by `croner` on civil times; what a civil time means where clocks
//! are turned is decided here:
//!
//! - A pattern that names hours (`30 2 * * *`) means a time of day. One that is skipped fires once at the first instant
//!   after the gap, one that comes twice fires the first time.
//! - A pattern of every hour or every so many (`*/15 * * * *`) means an interval: it goes on through both halves of a
//!   repeated hour, and has nothing to catch up for a skipped one.

use crate::{clock::Timestamp, fields::FieldError};
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::{
    SignedDuration, civil,
    tz::{AmbiguousOffset, Offset, TimeZone},
};
use std::time::Duration;

/// Fields of a pattern, in order.
const FIELDS: [(&str, &str); 5] = [
    ("minute", "0 to 59"),
    ("hour", "0 to 23"),
    ("day of month", "1 to 31 or L"),
    ("month", "1 to 12 or JAN to DEC"),
    ("day of week", "0 to 7 or SUN to SAT"),
];
/// Clocks are turned by less.
const TURN: SignedDuration = SignedDuration::from_hours(3);
/// A leap day may be eight years away; what does not come within these never does.
const FAR: SignedDuration = SignedDuration::from_hours(24 * 366 * 9);

/// A pattern in a time zone.
#[derive(Clone, Debug)]
pub struct Schedule {
    cron: Cron,
    zone: TimeZone,
    /// It names hours.
    times_of_day: bool,
}

/// Why a text is no schedule. `field` is `schedule` or `time_zone`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ScheduleError {
    pub field: &'static str,
    pub message: String,
}

impl From<ScheduleError> for FieldError {
    fn from(error: ScheduleError) -> Self {
        Self::new(error.field, error.message)
    }
}

impl Schedule {
    pub fn parse(pattern: &str, zone: &str) -> Result<Self, ScheduleError> {
        let wrong = |field, message| ScheduleError { field, message };
        let cron = read(pattern).map_err(|message| wrong("schedule", message))?;
        let found = TimeZone::get(zone).map_err(|_| {
            let message = format!("`{zone}` is no time zone: write one like `Europe/Zurich` or `UTC`");
            wrong("time_zone", message)
        })?;
        let hours = expanded(pattern).split_whitespace().nth(1).unwrap_or("*").to_owned();
        let schedule = Self { cron, zone: found, times_of_day: !hours.starts_with('*') };
        let now = civil::date(2026, 1, 1).at(0, 0, 0, 0);
        match schedule.cron.find_next_occurrence(&now, true) {
            Ok(first) if first.duration_since(now) < FAR => Ok(schedule),
            _ => Err(wrong("schedule", format!("`{pattern}` never comes: no year has that day"))),
        }
    }

    /// The first instant after `after` at which it is due. `None`: never again.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let after = instant(after)?;
        let local = self.zone.to_datetime(after);
        let offset = |at: jiff::Timestamp| self.zone.to_offset(at);
        let calm = match (after.checked_sub(TURN), after.checked_add(TURN)) {
            (Ok(before), Ok(later)) => offset(before) == offset(after) && offset(later) == offset(after),
            _ => false,
        };
        if calm {
            let next = self.civil_after(local)?;
            if let [only] = self.instants(next)[..] {
                return Some(stamp(only));
            }
        }
        self.search(after, local)
    }

    /// Near a turn of the clocks civil times do not come in order: all within reach are looked at.
    fn search(&self, after: jiff::Timestamp, local: civil::DateTime) -> Option<Timestamp> {
        let mut at = local.checked_sub(TURN).ok()?;
        let mut best: Option<(jiff::Timestamp, civil::DateTime)> = None;
        loop {
            at = self.civil_after(at)?;
            if let Some((best, until)) = best
                && at > until
            {
                return Some(stamp(best));
            }
            for found in self.instants(at).into_iter().filter(|found| *found > after) {
                if best.is_none_or(|(best, _)| found < best) {
                    best = Some((found, at.checked_add(TURN).ok()?));
                }
            }
        }
    }

    fn civil_after(&self, at: civil::DateTime) -> Option<civil::DateTime> {
        self.cron.find_next_occurrence(&at, false).ok()
    }

    /// When this civil time is.
    fn instants(&self, at: civil::DateTime) -> Vec<jiff::Timestamp> {
        let with = |offset: Offset| offset.to_timestamp(at).ok();
        let found = match self.zone.to_ambiguous_timestamp(at).offset() {
            AmbiguousOffset::Unambiguous { offset } => vec![with(offset)],
            AmbiguousOffset::Fold { before, .. } if self.times_of_day => vec![with(before)],
            AmbiguousOffset::Fold { before, after } => vec![with(before), with(after)],
            AmbiguousOffset::Gap { before, .. } if self.times_of_day => {
                vec![with(before).and_then(|at| self.turn_before(at))]
            }
            AmbiguousOffset::Gap { .. } => Vec::new(),
        };
        found.into_iter().flatten().collect()
    }

    /// The latest turn of the clocks until `at`.
    fn turn_before(&self, at: jiff::Timestamp) -> Option<jiff::Timestamp> {
        let until = at.checked_add(SignedDuration::from_nanos(1)).ok()?;
        self.zone.preceding(until).next().map(|turn| turn.timestamp())
    }

    /// The latest instants in `(after, until]`, at most `most` of them, in order.
    pub fn between(&self, after: Timestamp, until: Timestamp, most: usize) -> Vec<Timestamp> {
        let mut reach = Duration::from_secs(3600);
        loop {
            let from = until.minus(reach).max(after);
            let mut found = Vec::new();
            let mut at = from;
            while let Some(next) = self.next(at).filter(|next| *next <= until) {
                found.push(next);
                at = next;
            }
            if found.len() >= most || from == after {
                return found.split_off(found.len().saturating_sub(most));
            }
            reach = reach.saturating_mul(4);
        }
    }
}

/// `@daily` and its like as fields.
fn expanded(pattern: &str) -> &str {
    match pattern.trim() {
        "@hourly" => "0 * * * *",
        "@daily" | "@midnight" => "0 0 * * *",
        "@weekly" => "0 0 * * 0",
        "@monthly" => "0 0 1 * *",
        "@yearly" | "@annually" => "0 0 1 1 *",
        other => other,
    }
}

fn read(pattern: &str) -> Result<Cron, String> {
    let pattern = expanded(pattern);
    let fields: Vec<_> = pattern.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        let names = FIELDS.map(|(name, _)| name).join(", ");
        let count = fields.len();
        return Err(format!("`{pattern}` has {count} fields; five are wanted: {names}"));
    }
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    for (index, (field, (name, range))) in fields.iter().zip(FIELDS).enumerate() {
        let mut alone = ["*"; 5];
        alone[index] = field;
        if parser.parse(&alone.join(" ")).is_err() {
            return Err(format!(
                "the {name} `{field}` is not understood: write {range}, `*`, lists `1,2`, ranges `1-5` or steps `*/10`"
            ));
        }
    }
    parser.parse(pattern).map_err(|error| format!("`{pattern}`: {error}"))
}

fn instant(at: Timestamp) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_microsecond(at.as_micros()).ok()
}

fn stamp(at: jiff::Timestamp) -> Timestamp {
    Timestamp::from_micros(at.as_microsecond())
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
