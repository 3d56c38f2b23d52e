//! The rows of `secrets`, `job_secrets` and `data_keys`. Nothing in them can be read without a key that is elsewhere.

use crate::store::Error;
use longshore_common::clock::Timestamp;
use sqlx::{Row as _, sqlite::SqliteRow};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretKind {
    Secret,
    Registry,
    /// Of a trigger, by its id; nobody's to name.
    Hook,
}

impl SecretKind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Registry => "registry",
            Self::Hook => "hook",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct SecretRow {
    pub(crate) project: String,
    pub(crate) kind: SecretKind,
    pub(crate) name: String,
    pub(crate) username: String,
    pub(crate) sealed: Vec<u8>,
    pub(crate) key_id: i64,
    pub(crate) created_at: Timestamp,
    pub(crate) created_by: String,
    pub(crate) updated_at: Timestamp,
}

#[derive(Clone, Debug)]
pub(crate) struct DataKeyRow {
    pub(crate) id: i64,
    pub(crate) wrapped: Vec<u8>,
    pub(crate) created_at: Timestamp,
}

impl SecretRow {
    pub(in crate::store) fn read(row: &SqliteRow) -> Result<Self, Error> {
        let kind = match row.try_get("kind")? {
            "secret" => SecretKind::Secret,
            "registry" => SecretKind::Registry,
            "hook" => SecretKind::Hook,
            other => return Err(Error::corrupt("a kind of secret", other)),
        };
        Ok(Self {
            project: row.try_get("project")?,
            kind,
            name: row.try_get("name")?,
            username: row.try_get("username")?,
            sealed: row.try_get("sealed")?,
            key_id: row.try_get("key_id")?,
            created_at: Timestamp::from_micros(row.try_get("created_at")?),
            created_by: row.try_get("created_by")?,
            updated_at: Timestamp::from_micros(row.try_get("updated_at")?),
        })
    }
}

impl DataKeyRow {
    pub(in crate::store) fn read(row: &SqliteRow) -> Result<Self, Error> {
        Ok(Self {
            id: row.try_get("id")?,
            wrapped: row.try_get("wrapped")?,
            created_at: Timestamp::from_micros(row.try_get("created_at")?),
        })
    }
}
