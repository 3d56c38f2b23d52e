//! Times to come, as people type them.

use jiff::{Zoned, civil::Time};
use longshore_common::{clock::Timestamp, units::HumanDuration};

/// The same, and `+2h`: when a job may begin.
pub(crate) fn start(text: &str) -> Result<Timestamp, String> {
    until(text.strip_prefix('+').unwrap_or(text))
}

/// `18:00` (the next one here), `2h`, or `2026-11-21T18:00:00Z`.
pub(super) fn until(text: &str) -> Result<Timestamp, String> {
    until_after(text, &Zoned::now())
}

fn until_after(text: &str, now: &Zoned) -> Result<Timestamp, String> {
    let wrong = || format!("`{text}` is not a time like 18:00, 2h or 2026-11-21T18:00:00Z");
    let instant = |instant: jiff::Timestamp| Timestamp::from_micros(instant.as_microsecond());
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(instant(at));
    }
    if let Ok(time) = Time::strptime("%H:%M", text) {
        let on = |day: jiff::civil::Date| day.to_datetime(time).to_zoned(now.time_zone().clone());
        let today = on(now.date()).map_err(|_| wrong())?;
        let at = if &today > now { Ok(today) } else { now.date().tomorrow().and_then(on) };
        return at.map(|at| instant(at.timestamp())).map_err(|_| wrong());
    }
    let length: HumanDuration = text.parse().map_err(|_| wrong())?;
    Ok(instant(now.timestamp()).plus(length.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_is_the_next_one_here() {
        let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(1));
        let now = "2026-11-21T10:38:53Z".parse::<jiff::Timestamp>().expect("a time").to_zoned(zone);
        let at = |text: &str| until_after(text, &now).map(Timestamp::to_rfc3339);
        assert_eq!(at("18:00").as_deref(), Ok("2026-11-21T17:00:00Z"));
        assert_eq!(at("11:38").as_deref(), Ok("2026-11-22T10:38:00Z"), "it is past");
        assert_eq!(at("2h").as_deref(), Ok("2026-11-21T12:38:53Z"));
        assert_eq!(at("2026-12-01T08:00:00+02:00").as_deref(), Ok("2026-12-01T06:00:00Z"));
        for text in ["", "soon", "25:00", "18", "-2h"] {
            assert!(at(text).is_err(), "{text}");
        }
    }
}
