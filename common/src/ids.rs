//! Identifiers. Private newtypes, so that one cannot be passed for another.

use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use uuid::Uuid;

/// A text that is not an identifier of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {kind}")]
pub struct ParseIdError {
    kind: &'static str,
    text: String,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new, time-ordered id (UUIDv7).
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            pub fn from_slice(bytes: &[u8]) -> Result<Self, ParseIdError> {
                Uuid::from_slice(bytes)
                    .map(Self)
                    .map_err(|_| ParseIdError { kind: $kind, text: format!("{} bytes", bytes.len()) })
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text)
                    .map(Self)
                    .map_err(|_| ParseIdError { kind: $kind, text: text.to_owned() })
            }
        }
    };
}

uuid_id!(
    /// A job, inside the system. People see its [`ShortId`].
    JobId,
    "a job id"
);
uuid_id!(
    /// An agent: chosen once by the agent, kept in its data directory.
    AgentId,
    "an agent id"
);
uuid_id!(
    /// One run of an agent process.
    SessionId,
    "an agent session"
);
uuid_id!(
    /// A cluster: chosen when its database is made.
    ClusterId,
    "a cluster id"
);
uuid_id!(
    /// One `Claim` call; a repeat of the id is answered with the same grants.
    ClaimId,
    "a claim id"
);
uuid_id!(
    /// A trigger, whatever it is called.
    TriggerId,
    "a trigger id"
);
uuid_id!(
    /// One time that a trigger fired, or would have.
    FiringId,
    "a firing id"
);

uuid_id!(
    /// One process that somebody starts in a running container.
    ExecId,
    "an exec session"
);

/// Lower-case base32 without the letters and digits that people mistake for one another.
const ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";
const SHORT_LENGTH: usize = 8;

/// The job id that people see: eight characters of random base32.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ShortId(String);

impl ShortId {
    pub fn random() -> Self {
        let mut rng = rand::rng();
        Self((0..SHORT_LENGTH).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])).collect())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `text` could be the beginning of a short id.
    pub fn is_prefix(text: &str) -> bool {
        !text.is_empty() && text.len() <= SHORT_LENGTH && text.bytes().all(|b| ALPHABET.contains(&b))
    }
}

impl fmt::Display for ShortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ShortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ShortId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() == SHORT_LENGTH && Self::is_prefix(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseIdError { kind: "a job id", text: text.to_owned() })
        }
    }
}

impl TryFrom<String> for ShortId {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ShortId> for String {
    fn from(id: ShortId) -> Self {
        id.0
    }
}

/// The cluster's epoch: bumped when its database is restored from a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// An attempt together with its fencing token (cluster epoch, attempt number). Whoever shows the latest one
/// speaks for the job.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptRef {
    pub job: JobId,
    /// From 1, counts up.
    pub number: u32,
    pub epoch: Epoch,
}

impl fmt::Display for AttemptRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.job, self.number)
    }
}

impl fmt::Debug for AttemptRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}@{}", self.job, self.number, self.epoch.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_ids_parse_back_and_differ() {
        let (a, b) = (ShortId::random(), ShortId::random());
        assert_ne!(a, b);
        assert_eq!(a.as_str().parse(), Ok(a.clone()));
        assert!(ShortId::is_prefix(&a.as_str()[..3]));
    }

    #[test]
    fn a_name_is_not_a_short_id() {
        assert!("finetune".parse::<ShortId>().is_err(), "`i` and `l` are not in the alphabet");
        assert!("".parse::<ShortId>().is_err());
    }
}
