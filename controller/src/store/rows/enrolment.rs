//! The rows of `join_tokens` and `agent_credentials`.

use super::{small, time};
use crate::store::Error;
use longshore_common::{clock::Timestamp, credential::JoinTokenId, ids::AgentId};
use sqlx::{Row as _, sqlite::SqliteRow};

#[derive(Clone, Debug)]
pub(crate) struct JoinTokenRow {
    pub(crate) id: JoinTokenId,
    pub(crate) hash: Vec<u8>,
    pub(crate) created_at: Timestamp,
    pub(crate) created_by: String,
    pub(crate) expires_at: Timestamp,
    pub(crate) uses: u32,
    pub(crate) used: u32,
    pub(crate) revoked_at: Option<Timestamp>,
}

impl JoinTokenRow {
    pub(in crate::store) fn read(row: &SqliteRow) -> Result<Self, Error> {
        let id: Vec<u8> = row.try_get("id")?;
        Ok(Self {
            id: JoinTokenId::from_slice(&id)
                .ok_or_else(|| Error::corrupt("a join token's id", format!("{} bytes", id.len())))?,
            hash: row.try_get("hash")?,
            created_at: Timestamp::from_micros(row.try_get("created_at")?),
            created_by: row.try_get("created_by")?,
            expires_at: Timestamp::from_micros(row.try_get("expires_at")?),
            uses: small(row.try_get("uses")?),
            used: small(row.try_get("used")?),
            revoked_at: time(row.try_get("revoked_at")?),
        })
    }
}

#[derive(Clone, Debug)]
pub(crate) struct CredentialRow {
    pub(crate) serial: Vec<u8>,
    pub(crate) agent: AgentId,
    /// Of a key; `None`: it is a certificate.
    pub(crate) hash: Option<Vec<u8>>,
    pub(crate) issued_at: Timestamp,
    pub(crate) not_after: Timestamp,
    pub(crate) revoked_at: Option<Timestamp>,
}

impl CredentialRow {
    pub(in crate::store) fn read(row: &SqliteRow) -> Result<Self, Error> {
        let agent: Vec<u8> = row.try_get("agent_id")?;
        Ok(Self {
            serial: row.try_get("serial")?,
            agent: AgentId::from_slice(&agent).map_err(|error| Error::corrupt("an agent id", error))?,
            hash: row.try_get("hash")?,
            issued_at: Timestamp::from_micros(row.try_get("issued_at")?),
            not_after: Timestamp::from_micros(row.try_get("not_after")?),
            revoked_at: time(row.try_get("revoked_at")?),
        })
    }
}
