//! The rows of `run_keys`.

use super::{small, time};
use crate::store::Error;
use longshore_common::{
    clock::Timestamp,
    ids::{AttemptRef, Epoch, JobId},
};
use sqlx::{Row as _, sqlite::SqliteRow};

#[derive(Clone, Debug)]
pub(crate) struct RunKeyRow {
    pub(crate) attempt: AttemptRef,
    pub(crate) project: String,
    pub(crate) minter: String,
    /// JSON.
    pub(crate) told: String,
    /// The data key's id, and what it encrypted. `None`: it is not known whether there is a key.
    pub(crate) sealed: Option<(i64, Vec<u8>)>,
    pub(crate) created_at: Timestamp,
    /// When the minter was asked the last time and gave no answer: it may make a key yet.
    pub(crate) unanswered_at: Option<Timestamp>,
}

impl RunKeyRow {
    pub(in crate::store) fn read(row: &SqliteRow) -> Result<Self, Error> {
        let job: Vec<u8> = row.try_get("job_id")?;
        let epoch: i64 = row.try_get("epoch")?;
        let sealed: Option<Vec<u8>> = row.try_get("sealed")?;
        let key_id: Option<i64> = row.try_get("key_id")?;
        Ok(Self {
            attempt: AttemptRef {
                job: JobId::from_slice(&job).map_err(|error| Error::corrupt("a job id", error))?,
                number: small(row.try_get("attempt")?),
                epoch: Epoch(super::unsigned(epoch)),
            },
            project: row.try_get("project")?,
            minter: row.try_get("minter")?,
            told: row.try_get("told")?,
            sealed: key_id.zip(sealed),
            created_at: Timestamp::from_micros(row.try_get("created_at")?),
            unanswered_at: time(row.try_get("unanswered_at")?),
        })
    }
}
