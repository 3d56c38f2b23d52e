//! Time as the rest of Longshore sees it: microseconds since 1970 in UTC. Pure code takes `now` as an argument.

use crate::process::Process;
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The system clock's time. Leases never use it: they are durations on a monotonic clock.
    pub fn now() -> Self {
        Process::wall_clock().unwrap_or_else(Self::of_this_machine)
    }

    fn of_this_machine() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// `2026-11-21T10:38:53Z`, whole seconds.
    pub fn to_rfc3339(self) -> String {
        let seconds = self.0.div_euclid(1_000_000);
        let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    pub fn plus(self, length: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(length.as_micros()).unwrap_or(i64::MAX)))
    }

    pub fn minus(self, length: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(length.as_micros()).unwrap_or(i64::MAX)))
    }

    /// By a length that may be negative.
    #[must_use]
    pub const fn shifted(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }
}

/// Time since this machine was started, with the time it slept. Nobody sets this clock; it begins anew with every start
/// of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Uptime(Duration);

impl Uptime {
    /// `None`: the kernel does not say.
    pub fn now() -> Option<Self> {
        Process::uptime().or_else(Self::of_this_machine)
    }

    fn of_this_machine() -> Option<Self> {
        let text = std::fs::read_to_string("/proc/uptime").ok()?;
        Duration::try_from_secs_f64(text.split(' ').next()?.parse().ok()?).ok().map(Self)
    }

    pub const fn of(length: Duration) -> Self {
        Self(length)
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    pub const fn minus(self, length: Duration) -> Self {
        Self(self.0.saturating_sub(length))
    }
}

/// The two clocks of a machine are not read at once, and one of them counts hundredths.
const SAME_STEP_MICROS: i64 = 1_000_000;

/// A moment by both clocks of this machine: by the time of day, which may be set, and since its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    pub at: Timestamp,
    /// `None`: the kernel does not say.
    pub up: Option<Uptime>,
}

impl Moment {
    pub fn now() -> Self {
        Self { at: Timestamp::now(), up: Uptime::now() }
    }

    /// The moment before `self` that the time of day, not set since, called `at`.
    pub fn earlier(self, at: Timestamp) -> Self {
        Self { at, up: self.up.map(|up| up.minus(self.at.since(at))) }
    }

    /// By how many microseconds the time of day was set ahead between this moment and `now`; zero where that cannot be
    /// known.
    pub fn stepped(self, now: Self) -> i64 {
        let (Some(then), Some(up)) = (self.up, now.up) else { return 0 };
        if up < then {
            // Of an earlier start of the machine.
            return 0;
        }
        let went = i64::try_from(up.since(then).as_micros()).unwrap_or(i64::MAX);
        let step = now.at.as_micros().saturating_sub(self.at.as_micros()).saturating_sub(went);
        if step.saturating_abs() < SAME_STEP_MICROS { 0 } else { step }
    }

    /// This moment by the time of day as it is set `now`.
    pub fn by(self, now: Self) -> Timestamp {
        self.at.shifted(self.stepped(now))
    }

    /// How long ago it was.
    pub fn until(self, now: Self) -> Duration {
        now.at.since(self.by(now))
    }

    /// How long after this moment something was that bears the time of day `at`, set before a step up to `now` or after
    /// it. Of two lengths that both can be, the shorter.
    pub fn shortest_until(self, at: Timestamp, now: Self) -> Duration {
        let (before, after) = (at.since(self.at), at.since(self.by(now)));
        match (self.at <= at, self.by(now) <= at) {
            (true, false) => before,
            (false, true) => after,
            _ => before.min(after),
        }
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar: years begin in March here, so
/// that the leap day is the last of its year.
const fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_how_long_the_machine_is_up() {
        let before = Uptime::now().expect("said");
        assert!(before > Uptime::of(Duration::ZERO) && Uptime::now().expect("said") >= before);
    }

    #[test]
    fn a_step_of_the_clock_is_told_from_time_that_went_by() {
        let moment = |at: i64, up: u64| Moment {
            at: Timestamp::from_micros(at * 1_000_000),
            up: Some(Uptime::of(Duration::from_secs(up))),
        };
        let (began, now) = (moment(1000, 100), moment(1660, 160));
        assert_eq!(began.stepped(now), 600_000_000);
        assert_eq!(began.until(now), Duration::from_secs(60));
        assert_eq!(began.until(moment(460, 160)), Duration::from_secs(60), "set back");
        assert_eq!(began.by(now), Timestamp::from_micros(1_600_000_000));
        assert_eq!(now.earlier(Timestamp::from_micros(1_650_000_000)), moment(1650, 150));
        assert_eq!(began.stepped(Moment { up: None, ..now }), 0, "unknown");
        assert_eq!(moment(1000, 900).stepped(now), 0, "the machine was started since");
        for (at, length) in [(1030, 30), (1630, 30), (1590, 590)] {
            let at = Timestamp::from_micros(at * 1_000_000);
            assert_eq!(began.shortest_until(at, now), Duration::from_secs(length), "{at:?}");
        }
    }

    #[test]
    fn times_are_written_as_calendars_have_them() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_257_533, "2026-11-21T10:38:53Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(Timestamp::from_micros(seconds * 1_000_000).to_rfc3339(), text);
        }
    }
}
