//! What a job under contract `kleinkram` says beside what every job says. Plain data; `validate` judges it.

pub use super::validate::kleinkram::{complete, shapes};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Runs an image that was made for Kleinkram, unchanged.
pub const KLEINKRAM: &str = "kleinkram";
/// Of such a container, unless its job says otherwise.
pub const MOST_PIDS: u32 = 256;

/// A variable that the contract gives to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    pub name: &'static str,
    /// The name that it had before, which images still read. The store's address had none.
    pub former: Option<&'static str>,
    /// Below `kleinkram`; empty: nobody says it.
    pub field: &'static str,
}

impl Variable {
    const fn new(name: &'static str, former: Option<&'static str>, field: &'static str) -> Self {
        Self { name, former, field }
    }
}

/// All of them, and none is a job's to set.
pub const VARIABLES: [Variable; 6] = [
    Variable::new("KLEINKRAM_API_KEY", Some("APIKEY"), "key"),
    Variable::new("KLEINKRAM_PROJECT_UUID", Some("PROJECT_UUID"), "project_uuid"),
    Variable::new("KLEINKRAM_MISSION_UUID", Some("MISSION_UUID"), "mission_uuid"),
    Variable::new("KLEINKRAM_ACTION_UUID", Some("ACTION_UUID"), ""),
    Variable::new("KLEINKRAM_API_ENDPOINT", Some("ENDPOINT"), "api_endpoint"),
    Variable::new("KLEINKRAM_S3_ENDPOINT", None, "s3_endpoint"),
];

/// What is absent comes from the settings of the project; a submitted job has all but the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kleinkram {
    pub project_uuid: Option<String>,
    pub mission_uuid: Option<String>,
    pub api_endpoint: Option<String>,
    pub s3_endpoint: Option<String>,
    /// Name of the secret that is the run key; `None`: the project's minter makes one for each attempt.
    pub key: Option<String>,
    /// What the container writes beside `/out` and `/tmp_disk` counts against its memory limit.
    pub files_in_memory: bool,
}

impl Kleinkram {
    /// Takes from `usual` what is not said.
    pub fn complete_from(&mut self, usual: &Self) {
        let fields = [
            (&mut self.project_uuid, &usual.project_uuid),
            (&mut self.mission_uuid, &usual.mission_uuid),
            (&mut self.api_endpoint, &usual.api_endpoint),
            (&mut self.s3_endpoint, &usual.s3_endpoint),
        ];
        for (field, usual) in fields {
            if field.is_none() {
                field.clone_from(usual);
            }
        }
    }
}

impl Default for Kleinkram {
    fn default() -> Self {
        Self {
            project_uuid: None,
            mission_uuid: None,
            api_endpoint: None,
            s3_endpoint: None,
            key: None,
            // Images were written against this rule: one that breaks it there breaks it here.
            files_in_memory: true,
        }
    }
}

/// What a run key may do; each with all that those before it may.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    #[default]
    Read,
    Create,
    Write,
    Delete,
}

/// A text that names no right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a right; there are read, create, write and delete")]
pub struct UnknownAccess(String);

impl Access {
    pub const ALL: [Self; 4] = [Self::Read, Self::Create, Self::Write, Self::Delete];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Create => "create",
            Self::Write => "write",
            Self::Delete => "delete",
        }
    }

    pub fn is_default(&self) -> bool {
        *self == Self::Read
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Access {
    type Err = UnknownAccess;

    fn from_str(text: &str) -> Result<Self, UnknownAccess> {
        Self::ALL.into_iter().find(|one| one.as_str() == text).ok_or_else(|| UnknownAccess(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_has_those_before_it_and_reads_back() {
        assert!(Access::ALL.windows(2).all(|pair| pair[0] < pair[1]));
        for access in Access::ALL {
            assert_eq!(access.to_string().parse(), Ok(access));
            assert_eq!(serde_json::to_value(access).expect("text"), access.as_str());
        }
        assert!("admin".parse::<Access>().is_err());
    }
}
