//! A year of clocks, in zones that turn them differently.

use super::*;
use std::collections::BTreeMap;

fn schedule(pattern: &str, zone: &str) -> Schedule {
    Schedule::parse(pattern, zone).expect("a schedule")
}

fn utc(text: &str) -> Timestamp {
    stamp(text.parse().expect("an instant"))
}

/// All of 2026, as they come one after the other.
fn year(schedule: &Schedule) -> Vec<Timestamp> {
    let (mut at, end) = (utc("2025-12-31T23:59:59Z"), utc("2027-01-01T00:00:00Z"));
    let mut all = Vec::new();
    while let Some(next) = schedule.next(at).filter(|next| *next < end) {
        assert!(next > at, "{} is not after {}", next.to_rfc3339(), at.to_rfc3339());
        all.push(next);
        at = next;
    }
    all
}

fn locals(schedule: &Schedule, instants: &[Timestamp]) -> Vec<civil::DateTime> {
    instants.iter().map(|at| schedule.zone.to_datetime(instant(*at).expect("in range"))).collect()
}

#[test]
fn a_time_of_day_comes_once_on_each_day_of_a_year_with_both_turns() {
    // Zone, a time that one day skips, when it fires on that day, a time that one day has twice, its first instant.
    let zones = [
        ("Europe/Zurich", "30 2 * * *", "2026-03-29T01:00:00Z", "30 2 * * *", "2026-10-25T00:30:00Z"),
        ("America/New_York", "30 2 * * *", "2026-03-08T07:00:00Z", "30 1 * * *", "2026-11-01T05:30:00Z"),
        ("Australia/Lord_Howe", "15 2 * * *", "2026-10-03T15:30:00Z", "45 1 * * *", "2026-04-04T14:45:00Z"),
        ("Pacific/Auckland", "0 2 * * *", "2026-09-26T14:00:00Z", "30 2 * * *", "2026-04-04T13:30:00Z"),
        ("America/St_Johns", "5 2 * * *", "2026-03-08T05:30:00Z", "30 1 * * *", "2026-11-01T04:00:00Z"),
    ];
    for (zone, skipped, gap, repeated, first) in zones {
        for (pattern, instant) in [(skipped, gap), (repeated, first)] {
            let schedule = schedule(pattern, zone);
            let year = year(&schedule);
            let mut days = BTreeMap::new();
            for local in locals(&schedule, &year) {
                *days.entry(local.date()).or_insert(0) += 1;
            }
            assert!(days.values().all(|count| *count == 1), "{zone} {pattern}: {days:?}");
            assert!((364..=366).contains(&year.len()), "{zone} {pattern}: {}", year.len());
            assert!(year.contains(&utc(instant)), "{zone} {pattern}: {instant}");
        }
    }
}

#[test]
fn an_interval_goes_on_through_both_turns() {
    for zone in ["Europe/Zurich", "America/New_York", "Australia/Lord_Howe", "UTC", "Asia/Kathmandu"] {
        let quarter = schedule("*/15 * * * *", zone);
        let year = year(&quarter);
        assert_eq!(year.len(), 365 * 24 * 4, "{zone}");
        let steps = year.windows(2).map(|pair| pair[1].since(pair[0]).as_secs());
        assert!(steps.into_iter().all(|step| step == 900), "{zone}");
    }
    let hourly = year(&schedule("0 * * * *", "Australia/Lord_Howe"));
    let odd = hourly.windows(2).filter(|pair| pair[1].since(pair[0]).as_secs() != 3600).count();
    assert_eq!(odd, 2, "half an hour is lost once and won once");
}

#[test]
fn two_times_in_one_gap_fire_once() {
    let times = schedule("0,30 2 29 3 *", "Europe/Zurich");
    assert_eq!(year(&times), [utc("2026-03-29T01:00:00Z")]);
    let with_the_end = schedule("0 2,3 29 3 *", "Europe/Zurich");
    assert_eq!(year(&with_the_end), [utc("2026-03-29T01:00:00Z")]);
    let twice = schedule("0,30 2 25 10 *", "Europe/Zurich");
    assert_eq!(year(&twice), [utc("2026-10-25T00:00:00Z"), utc("2026-10-25T00:30:00Z")]);
}

#[test]
fn a_day_that_a_zone_left_out_fires_once() {
    // Samoa had no 30 December 2011.
    let daily = schedule("0 12 * * *", "Pacific/Apia");
    // 29 December, the turn itself in place of 30 December, 31 December, 1 January.
    let got = daily.between(utc("2011-12-29T00:00:00Z"), utc("2012-01-01T00:00:00Z"), 10);
    assert_eq!(got.len(), 4, "{got:?}");
    assert_eq!(got[1], utc("2011-12-30T10:00:00Z"));
}

#[test]
fn names_lists_ranges_steps_and_last_days_are_read() {
    for (pattern, count) in [
        ("0 9 * * MON-FRI", 261),
        ("0 9 * jan,JUL 1", 8),
        ("0 0 L * *", 12),
        ("0 0 29 2 *", 0),
        ("0 0 1-31/10 * *", 43),
        ("@daily", 365),
        ("0 0 * * 7", 52),
    ] {
        assert_eq!(year(&schedule(pattern, "UTC")).len(), count, "{pattern}");
    }
}

#[test]
fn the_wrong_field_is_named() {
    for (pattern, says) in [
        ("60 * * * *", "the minute `60`"),
        ("0 25 * * *", "the hour `25`"),
        ("0 0 32 * *", "the day of month `32`"),
        ("0 0 1 FOO *", "the month `FOO`"),
        ("0 0 * * 9", "the day of week `9`"),
        ("0 0 * *", "has 4 fields; five are wanted: minute, hour, day of month"),
        ("0 0 0 * * *", "has 6 fields"),
        ("", "has 0 fields"),
        ("0 0 30 2 *", "never comes"),
        ("@often", "has 1 fields"),
        ("*/0 * * * *", "the minute `*/0`"),
        ("5-1-3 * * * *", "the minute `5-1-3`"),
    ] {
        let error = Schedule::parse(pattern, "UTC").expect_err(pattern);
        assert_eq!(error.field, "schedule");
        assert!(error.message.contains(says), "{pattern}: {error}");
    }
    let error = Schedule::parse("0 0 * * *", "Europe/Zuerich").expect_err("no zone");
    assert_eq!(error.field, "time_zone");
    assert!(error.message.contains("Europe/Zurich"), "{error}");
}

#[test]
fn what_was_missed_is_found_from_the_end_and_bounded() {
    let every = schedule("* * * * *", "UTC");
    let (from, to) = (utc("2020-01-01T00:00:00Z"), utc("2026-01-01T00:00:00Z"));
    let got = every.between(from, to, 100);
    assert_eq!((got.len(), got.last()), (100, Some(&to)));
    assert_eq!(got[0], utc("2025-12-31T22:21:00Z"));
    assert_eq!(every.between(to, to, 100), []);
    let yearly = schedule("0 0 1 1 *", "UTC");
    assert_eq!(yearly.between(from, to, 100).len(), 6);
}
