//! The rows of `agents` and `requests`.

use super::{from_json, to_json};
use crate::store::Error;
use longshore_common::{
    agent::{AgentIdentity, Inventory},
    clock::Timestamp,
    ids::{JobId, ShortId},
};
use serde::Serialize;
use sqlx::{Row as _, sqlite::SqliteRow};

#[derive(Clone, Debug)]
pub(crate) struct AgentRow {
    pub(crate) identity: AgentIdentity,
    pub(crate) inventory: Inventory,
    pub(crate) seen_at: Timestamp,
}

impl AgentRow {
    pub(in crate::store) fn read(row: &SqliteRow) -> Result<Self, Error> {
        Ok(Self {
            identity: from_json("an agent", row.try_get("identity")?)?,
            inventory: from_json("an inventory", row.try_get("inventory")?)?,
            seen_at: Timestamp::from_micros(row.try_get("seen_at")?),
        })
    }

    pub(in crate::store) fn packed(&self) -> (String, String) {
        (to_json(&self.identity), to_json(&self.inventory))
    }
}

/// A `request_id` that was used.
#[derive(Clone, Debug)]
pub(crate) struct RequestRow {
    pub(crate) project: String,
    pub(crate) request_id: String,
    /// Of the spec as it was sent.
    pub(crate) digest: Vec<u8>,
    pub(crate) job: JobId,
    pub(crate) short_id: ShortId,
}

#[derive(Serialize)]
struct Packed<'a> {
    project: &'a str,
    request_id: &'a str,
    digest: String,
    job_id: String,
    short_id: &'a str,
}

pub(in crate::store) fn pack_requests(rows: &[RequestRow]) -> String {
    super::pack_list(rows.iter().map(|row| Packed {
        project: &row.project,
        request_id: &row.request_id,
        digest: hex::encode(&row.digest),
        job_id: hex::encode(row.job.as_bytes()),
        short_id: row.short_id.as_str(),
    }))
}
