//! Sizes, lengths of time and shares of cores as people write and read them.

use crate::job::resources::{GIB, MIB};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

/// A number of bytes, written with its unit: `64GiB`, `1.5GB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// A length of time, written with its units: `24h`, `1h30m`, `500ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HumanDuration(pub Duration);

/// Thousandths of a core, written `4`, `0.5` or `500m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cores(pub u32);

/// A text that is no such amount, and how to write one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnitError(String);

const SIZES: [(&str, u64); 12] = [
    ("PiB", 1 << 50),
    ("PB", 1_000_000_000_000_000),
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("bytes", 1),
    ("B", 1),
];
const LENGTHS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// `1 file`, `2 files`.
pub fn plural(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

impl ByteSize {
    /// As `docker` reads sizes: `8g` is eight GiB. Units of [`ByteSize`] are taken too.
    pub fn from_docker(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = split_unit(text);
        let unit = match unit.to_ascii_lowercase().as_str() {
            "k" => "KiB",
            "m" => "MiB",
            "g" => "GiB",
            "t" => "TiB",
            _ => return text.parse(),
        };
        format!("{number}{unit}").parse()
    }

    /// For people who compare two of them: in GiB, below that in MiB, to the tenth.
    pub fn to_tenths(self) -> String {
        let (unit, name) = if self.0 >= GIB { (GIB, "GiB") } else { (MIB, "MiB") };
        if self.0.is_multiple_of(unit) {
            return format!("{} {name}", self.0 / unit);
        }
        #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
        let value = self.0 as f64 / unit as f64;
        format!("{value:.1} {name}")
    }

    /// Rounded, for people: `3.2 GiB`.
    pub fn rounded(self) -> String {
        let bytes = self.0;
        for (unit, factor) in SIZES.iter().filter(|(unit, _)| unit.ends_with("iB")) {
            if bytes >= *factor {
                #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
                let value = bytes as f64 / *factor as f64;
                return if value >= 100.0 || bytes.is_multiple_of(*factor) {
                    format!("{value:.0} {unit}")
                } else {
                    format!("{value:.1} {unit}")
                };
            }
        }
        format!("{bytes} B")
    }
}

impl HumanDuration {
    /// The two largest parts, for people: `2m51s`, `3d4h`.
    pub fn rounded(self) -> String {
        let seconds = self.0.as_secs();
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
        match (days, hours, minutes) {
            (0, 0, 0) if seconds < 10 => format!("{:.1}s", self.0.as_secs_f64()),
            (0, 0, 0) => format!("{seconds}s"),
            (0, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
            (0, _, _) => format!("{hours}h{minutes:02}m"),
            _ => format!("{days}d{hours}h"),
        }
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        is_positive(text)?;
        let (number, unit) = split_unit(text);
        let wrong = || UnitError(format!("`{text}` is not a size like 64GiB or 500MB"));
        let value: f64 = number.parse().map_err(|_| wrong())?;
        if unit.is_empty() {
            return Err(UnitError(format!(
                "`{text}` has no unit: write {number}GiB, {number}MiB or {number}GB"
            )));
        }
        let Some((_, factor)) = SIZES.iter().find(|(known, _)| known.eq_ignore_ascii_case(unit)) else {
            let letter = unit.to_ascii_uppercase();
            return Err(if matches!(letter.as_str(), "K" | "M" | "G" | "T" | "P") {
                UnitError(format!("`{text}`: write {number}{letter}iB (powers of 1024) or {number}{letter}B"))
            } else {
                wrong()
            });
        };
        // Whole numbers are exact; only fractions go through floating point.
        if let Ok(whole) = number.parse::<u64>() {
            return whole
                .checked_mul(*factor)
                .map(Self)
                .ok_or_else(|| UnitError(format!("`{text}` is too large")));
        }
        #[expect(clippy::cast_precision_loss, reason = "a fraction of a unit is not exact anyway")]
        let bytes = value * *factor as f64;
        if !(0.0..9.0e18).contains(&bytes) {
            return Err(UnitError(format!("`{text}` is not a size that can be")));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "in range by the check above"
        )]
        Ok(Self(bytes.round() as u64))
    }
}

/// Exact: reads back as the same size.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = |(unit, factor): &&(&str, u64)| {
            unit.ends_with("iB") && self.0 >= *factor && self.0.is_multiple_of(*factor)
        };
        match SIZES.iter().find(exact) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl FromStr for HumanDuration {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        is_positive(text)?;
        let wrong = || UnitError(format!("`{text}` is not a time like 24h, 1h30m or 10s"));
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(wrong());
        }
        let mut total = Duration::ZERO;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            let (number, after) = rest.split_at(digits);
            let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
            let (unit, after) = after.split_at(letters);
            let value: f64 = number.parse().map_err(|_| wrong())?;
            if unit.is_empty() {
                return Err(UnitError(format!(
                    "`{text}` has no unit: write {number}s, {number}m or {number}h"
                )));
            }
            let (_, factor) = LENGTHS.iter().find(|(known, _)| *known == unit).ok_or_else(wrong)?;
            #[expect(clippy::cast_precision_loss, reason = "at most a day in milliseconds")]
            let seconds = value * *factor as f64 / 1000.0;
            let part = Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?;
            total = total.checked_add(part).ok_or_else(wrong)?;
            rest = after.trim_start();
        }
        Ok(Self(total))
    }
}

/// Exact to the millisecond: reads back as the same length.
impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0.as_millis();
        if left == 0 {
            return f.write_str("0s");
        }
        // People say 24h, not 1d.
        let skip = usize::from(left < 48 * 3_600_000);
        for (unit, factor) in LENGTHS.into_iter().skip(skip) {
            let count = left / u128::from(factor);
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
            left %= u128::from(factor);
        }
        Ok(())
    }
}

impl FromStr for Cores {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        is_positive(text)?;
        let wrong = || UnitError(format!("`{text}` is not a number of cores like 4, 0.5 or 500m"));
        let millis = match text.strip_suffix('m') {
            Some(millis) => f64::from(millis.parse::<u32>().map_err(|_| wrong())?),
            None => text.parse::<f64>().map_err(|_| wrong())? * 1000.0,
        };
        if !(0.0..4.0e9).contains(&millis) {
            return Err(wrong());
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "in range by the check above"
        )]
        Ok(Self(millis.round() as u32))
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) { write!(f, "{}", self.0 / 1000) } else { write!(f, "{}m", self.0) }
    }
}

/// No amount of anything is below zero.
fn is_positive(text: &str) -> Result<(), UnitError> {
    let negative = text.trim_start().starts_with('-');
    if negative { Err(UnitError(format!("`{text}` must be positive"))) } else { Ok(()) }
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '-').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    (number.trim(), unit.trim())
}

/// Reads texts by `FromStr`; numbers only where a bare number means something.
macro_rules! as_text {
    ($name:ident, $expects:literal, $pattern:literal, $number:expr) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Text;
                impl de::Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expects)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }

                    fn visit_i64<E: de::Error>(self, number: i64) -> Result<$name, E> {
                        number.to_string().parse().map_err(E::custom)
                    }

                    fn visit_u64<E: de::Error>(self, number: u64) -> Result<$name, E> {
                        number.to_string().parse().map_err(E::custom)
                    }

                    fn visit_f64<E: de::Error>(self, number: f64) -> Result<$name, E> {
                        number.to_string().parse().map_err(E::custom)
                    }
                }
                from.deserialize_any(Text)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let types: &[&str] = if $number { &["string", "number"] } else { &["string"] };
                schemars::json_schema!({ "type": types, "pattern": $pattern, "description": $expects })
            }
        }
    };
}

as_text!(
    ByteSize,
    "a size with its unit, like 64GiB or 500MB",
    r"^[0-9]+(\.[0-9]+)?\s*([KkMGTPkmgtp][Ii]?)?[Bb](ytes)?$",
    false
);
as_text!(
    HumanDuration,
    "a time with its unit, like 24h, 1h30m or 10s",
    r"^([0-9]+(\.[0-9]+)?(d|h|m|s|ms)\s*)+$",
    false
);
as_text!(Cores, "a number of cores, like 4, 0.5 or 500m", r"^([0-9]+(\.[0-9]+)?|[0-9]+m)$", true);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_zero_is_told_so() {
        let wrong = |error: UnitError| error.to_string();
        for error in [
            ByteSize::from_docker("-1g").map_err(wrong).expect_err("negative"),
            "-1GiB".parse::<ByteSize>().map_err(wrong).expect_err("negative"),
            "-5m".parse::<HumanDuration>().map_err(wrong).expect_err("negative"),
            "-1".parse::<Cores>().map_err(wrong).expect_err("negative"),
        ] {
            assert!(error.ends_with(" must be positive"), "{error}");
        }
    }

    #[test]
    fn sizes_read_with_their_unit_only() {
        for (text, bytes) in [
            ("64GiB", 64 << 30),
            ("1.5GiB", 3 << 29),
            ("500MB", 500_000_000),
            ("1 TiB", 1 << 40),
            ("12B", 12),
            ("2gib", 2 << 30),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for (text, says) in [
            ("64", "write 64GiB"),
            ("64G", "64GiB (powers of 1024) or 64GB"),
            ("-1GiB", "must be positive"),
            ("lots", "is not a size"),
            ("", "is not a size"),
            ("99999999999PiB", "too large"),
        ] {
            let error = text.parse::<ByteSize>().expect_err(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn docker_sizes_are_powers_of_1024() {
        assert_eq!(ByteSize::from_docker("8g"), Ok(ByteSize(8 << 30)));
        assert_eq!(ByteSize::from_docker("512M"), Ok(ByteSize(512 << 20)));
        assert_eq!(ByteSize::from_docker("8GiB"), Ok(ByteSize(8 << 30)));
        assert!(ByteSize::from_docker("8").is_err());
    }

    #[test]
    fn lengths_read_in_parts() {
        for (text, seconds) in [("24h", 86_400), ("1h30m", 5_400), ("1d 2h", 93_600), ("0s", 0), ("1.5m", 90)]
        {
            assert_eq!(text.parse(), Ok(HumanDuration(Duration::from_secs(seconds))), "{text}");
        }
        for text in ["90", "", "-5s", "1y", "h", "5 s m"] {
            assert!(text.parse::<HumanDuration>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for bytes in [0, 1, 1023, 1 << 20, 3 << 29, u64::MAX] {
            assert_eq!(ByteSize(bytes).to_string().parse(), Ok(ByteSize(bytes)));
        }
        assert_eq!(HumanDuration(Duration::from_secs(86_400)).to_string(), "24h");
        assert_eq!(HumanDuration(Duration::from_secs(30 * 86_400)).to_string(), "30d");
        for millis in [0, 1, 1500, 5_400_000, 93_784_005, 400_000_000] {
            let length = HumanDuration(Duration::from_millis(millis));
            assert_eq!(length.to_string().parse(), Ok(length));
        }
        for millis in [10, 500, 1000, 1500, 64_000] {
            assert_eq!(Cores(millis).to_string().parse(), Ok(Cores(millis)));
        }
    }

    #[test]
    fn people_read_rounded_amounts() {
        assert_eq!(ByteSize(2 << 30).rounded(), "2 GiB");
        assert_eq!(ByteSize(3_435_973_836).rounded(), "3.2 GiB");
        assert_eq!(ByteSize(17).rounded(), "17 B");
        let length = |seconds| HumanDuration(Duration::from_secs(seconds)).rounded();
        assert_eq!((length(171), length(41), length(90_000)), ("2m51s".into(), "41s".into(), "1d1h".into()));
        assert_eq!(HumanDuration(Duration::from_millis(340)).rounded(), "0.3s");
    }
}
