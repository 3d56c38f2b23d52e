//! Versions that a job asks for at least: of a driver, of CUDA, of a GPU's abilities. Compared part by part.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{borrow::Cow, cmp::Ordering, fmt, str::FromStr};

/// The most parts anybody's version has: `535.104.05` has three.
const PARTS: usize = 4;

/// Numbers between dots, as they were written: `8.0`, `535.104.05`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(String);

/// A text that is no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a version: write numbers between dots, as in \"8.0\" or \">=8.0\"")]
pub struct VersionError(String);

impl Version {
    /// Whether this one is `least` or a later one. Parts that are not there count as zero.
    pub fn meets(&self, least: &Self) -> bool {
        let (mut have, mut want) = (self.parts(), least.parts());
        for _ in 0..PARTS {
            match have.next().unwrap_or(0).cmp(&want.next().unwrap_or(0)) {
                Ordering::Less => return false,
                Ordering::Equal => {}
                Ordering::Greater => return true,
            }
        }
        true
    }

    fn parts(&self) -> impl Iterator<Item = u32> {
        self.0.split('.').map(|part| part.parse().unwrap_or(0))
    }
}

/// `>=` may stand before it: there is no other way to ask.
impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let number = text.trim();
        let number = number.strip_prefix(">=").unwrap_or(number).trim();
        let is_part = |part: &str| (1..=9).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        let fits = number.split('.').count() <= PARTS && number.split('.').all(is_part);
        if fits { Ok(Self(number.to_owned())) } else { Err(VersionError(text.to_owned())) }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

struct Visitor;

impl de::Visitor<'_> for Visitor {
    type Value = Version;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a version, as in \"8.0\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Version, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Version, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Version, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Version, E> {
        // 12.10 would be read as 12.1.
        Err(E::custom(format_args!("is a bare {number:?}: quote it, \"{number:?}\", as it should be read")))
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Visitor)
    }
}

impl JsonSchema for Version {
    fn schema_name() -> Cow<'static, str> {
        "Version".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_part_by_part() {
        let version = |text: &str| text.parse::<Version>().expect("a version");
        for (have, least, meets) in [
            ("8.0", "8.0", true),
            ("8.0", "8", true),
            ("8.6", ">= 8.0", true),
            ("7.5", "8.0", false),
            ("12.10", "12.4", true),
            ("535.104.05", "535.104.6", false),
            ("550", "535.104.05", true),
        ] {
            assert_eq!(version(have).meets(&version(least)), meets, "{have} against {least}");
        }
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for bad in ["", ">=", "8.", ".8", "8.x", "<8", "1.2.3.4.5", "9999999999"] {
            assert!(bad.parse::<Version>().is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<Version>("8.10").unwrap_err().to_string().contains("quote it"));
        assert_eq!(serde_json::from_str::<Version>("535").expect("a number").to_string(), "535");
    }
}
