//! Reads the engine's times. It prints UTC in RFC 3339 with up to nine digits of a second.

use longshore_common::clock::Timestamp;

/// `None` for what is no time, and for Go's zero time, which stands for "never".
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut clock = clock.splitn(3, ':').map(str::parse::<i64>);
    let (hour, minute, second) = (clock.next()?.ok()?, clock.next()?.ok()?, clock.next()?.ok()?);
    if year < 1970 || !(1..=12).contains(&month) || fraction.len() > 9 {
        return None;
    }
    let nanos: i64 = format!("{fraction:0<9}").parse().ok()?;
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some(Timestamp::from_micros(seconds * 1_000_000 + nanos / 1000))
}

/// Days since 1970-01-01 of a Gregorian date (Howard Hinnant's algorithm).
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_times_are_read_to_the_microsecond() {
        assert_eq!(parse("1970-01-01T00:00:01Z"), Some(Timestamp::from_micros(1_000_000)));
        assert_eq!(
            parse("2026-02-28T23:59:59.123456789Z"),
            Some(Timestamp::from_micros(1_772_323_199_123_456))
        );
        assert_eq!(parse("2024-02-29T12:00:00.5Z"), Some(Timestamp::from_micros(1_709_208_000_500_000)));
    }

    #[test]
    fn never_and_nonsense_are_no_times() {
        for text in ["0001-01-01T00:00:00Z", "", "yesterday", "2026-02-28T23:59:59+01:00", "2026-1Z"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
