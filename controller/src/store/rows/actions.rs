//! The rows of `actions`, `action_versions`, `action_usage` and `action_requests`.

use super::{from_json, small, time, unsigned};
use crate::{
    actions::{ActionView, Archived, Usage},
    store::Error,
};
use longshore_common::clock::Timestamp;
use sqlx::{Row as _, sqlite::SqliteRow};
use std::sync::Arc;

/// A `request_id` that was used, and what came of it.
#[derive(Clone, Debug)]
pub(crate) struct ActionRequestRow {
    pub(crate) project: String,
    pub(crate) request_id: String,
    pub(crate) digest: Vec<u8>,
    pub(crate) name: String,
    pub(crate) version: u32,
    pub(crate) changed: bool,
}

impl ActionView {
    pub(in crate::store) fn read(row: &SqliteRow) -> Result<Self, Error> {
        let count = |column: &str| -> Result<u64, Error> {
            Ok(unsigned(row.try_get::<Option<i64>, _>(column)?.unwrap_or_default()))
        };
        let archived = time(row.try_get("archived_at")?).map(|at| -> Result<_, Error> {
            Ok(Archived { at, by: row.try_get::<Option<_>, _>("archived_by")?.unwrap_or_default() })
        });
        Ok(Self {
            project: row.try_get("project")?,
            action: Arc::new(from_json("an action", row.try_get("spec")?)?),
            version: small(row.try_get("version")?),
            latest: small(row.try_get("latest")?),
            created_at: Timestamp::from_micros(row.try_get("created_at")?),
            created_by: row.try_get("created_by")?,
            restored_from: row.try_get::<Option<i64>, _>("restored_from")?.map(small),
            archived: archived.transpose()?,
            usage: Usage {
                jobs: count("jobs")?,
                succeeded: count("succeeded")?,
                failed: count("failed")?,
                cancelled: count("cancelled")?,
                used_at: time(row.try_get("used_at")?),
            },
        })
    }
}

impl ActionRequestRow {
    pub(in crate::store) fn read(row: &SqliteRow) -> Result<Self, Error> {
        Ok(Self {
            project: row.try_get("project")?,
            request_id: row.try_get("request_id")?,
            digest: row.try_get("digest")?,
            name: row.try_get("name")?,
            version: small(row.try_get("version")?),
            changed: row.try_get::<i64, _>("changed")? != 0,
        })
    }
}
