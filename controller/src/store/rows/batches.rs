//! The rows of `batches` and `batch_requests`.

use super::{parse, small};
use crate::store::Error;
use longshore_common::{clock::Timestamp, ids::ShortId};
use sqlx::{Row as _, sqlite::SqliteRow};

/// A batch without its jobs.
#[derive(Clone, Debug)]
pub(crate) struct BatchRow {
    pub(crate) id: ShortId,
    pub(crate) project: String,
    pub(crate) name: String,
    pub(crate) max_parallel: Option<u32>,
    pub(crate) total: u32,
    pub(crate) created_at: Timestamp,
    pub(crate) submitter: Option<String>,
    pub(crate) retry_of: Option<ShortId>,
}

/// A request that made a batch, whether that is still there or not.
#[derive(Clone, Debug)]
pub(crate) struct BatchRequestRow {
    pub(crate) project: String,
    pub(crate) request_id: String,
    pub(crate) digest: Vec<u8>,
    pub(crate) batch: ShortId,
}

impl BatchRow {
    pub(in crate::store) fn read(row: &SqliteRow) -> Result<Self, Error> {
        let retry_of: Option<&str> = row.try_get("retry_of")?;
        Ok(Self {
            id: parse("a batch id", row.try_get("id")?)?,
            project: row.try_get("project")?,
            name: row.try_get("name")?,
            max_parallel: row.try_get::<Option<i64>, _>("max_parallel")?.map(small),
            total: small(row.try_get("total")?),
            created_at: Timestamp::from_micros(row.try_get("created_at")?),
            submitter: row.try_get("submitter_name")?,
            retry_of: retry_of.map(|id| parse("a batch id", id)).transpose()?,
        })
    }
}

impl BatchRequestRow {
    pub(in crate::store) fn read(row: &SqliteRow) -> Result<Self, Error> {
        Ok(Self {
            project: row.try_get("project")?,
            request_id: row.try_get("request_id")?,
            digest: row.try_get("digest")?,
            batch: parse("a batch id", row.try_get("batch")?)?,
        })
    }
}
