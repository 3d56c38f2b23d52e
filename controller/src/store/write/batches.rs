//! Batches inside a transaction, and whose turn it is in them.

use super::Tx;
use crate::store::{
    BatchRequestRow, BatchRow, Error,
    dialect::{item, rows},
    pack_list,
    rows::{jobs::job_id, parse, small},
};
use longshore_common::{
    clock::Timestamp,
    ids::{JobId, ShortId},
};
use sqlx::Row as _;

const BOUNDED: &str = concat!(
    "SELECT b.id, b.max_parallel FROM ",
    rows!("$1"),
    " AS v JOIN batches AS b ON b.id = ",
    item!("v.value"),
    " WHERE b.max_parallel IS NOT NULL",
);

pub(in crate::store) const GOING: &str =
    "SELECT COUNT(*) FROM jobs WHERE batch = $1 AND awaits_turn = 0 AND finished_at IS NULL";

pub(in crate::store) const NEXT: &str = "SELECT id FROM jobs WHERE batch = $1 AND awaits_turn = 1 AND blocked = 0 \
     AND not_before IS NULL AND finished_at IS NULL ORDER BY rank, batch_row LIMIT $2";

impl Tx {
    pub(crate) async fn insert_batch(&mut self, row: &BatchRow) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO batches (id, project, name, max_parallel, total, created_at, submitter_name, retry_of) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(row.id.as_str())
        .bind(&row.project)
        .bind(&row.name)
        .bind(row.max_parallel.map(i64::from))
        .bind(i64::from(row.total))
        .bind(row.created_at.as_micros())
        .bind(&row.submitter)
        .bind(row.retry_of.as_ref().map(ShortId::as_str))
        .execute(self.connection())
        .await?;
        Ok(())
    }

    pub(crate) async fn insert_batch_request(
        &mut self,
        row: &BatchRequestRow,
        now: Timestamp,
    ) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO batch_requests (project, request_id, digest, batch, created_at) \
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(&row.project)
        .bind(&row.request_id)
        .bind(&row.digest)
        .bind(row.batch.as_str())
        .bind(now.as_micros())
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// The request, and whether its batch is still there.
    pub(crate) async fn find_batch_request(
        &mut self,
        project: &str,
        request: &str,
    ) -> Result<Option<(BatchRequestRow, bool)>, Error> {
        let row = sqlx::query(
            "SELECT r.*, b.id AS there FROM batch_requests AS r LEFT JOIN batches AS b ON b.id = r.batch \
             WHERE r.project = $1 AND r.request_id = $2",
        )
        .bind(project)
        .bind(request)
        .fetch_optional(self.connection())
        .await?;
        let Some(row) = row else { return Ok(None) };
        let there = row.try_get::<Option<&str>, _>("there")?.is_some();
        Ok(Some((BatchRequestRow::read(&row)?, there)))
    }

    /// Those of them that are bounded, and how.
    pub(crate) async fn bounded(
        &mut self,
        batches: impl Iterator<Item = &ShortId>,
    ) -> Result<Vec<(ShortId, u32)>, Error> {
        let list = pack_list(batches.map(ShortId::as_str));
        let rows = sqlx::query(BOUNDED).bind(list).fetch_all(self.connection()).await?;
        rows.iter().map(|row| Ok((parse("a batch id", row.try_get(0)?)?, small(row.try_get(1)?)))).collect()
    }

    /// Jobs of the batch that were let go and have not ended.
    pub(crate) async fn going(&mut self, batch: &ShortId) -> Result<u32, Error> {
        let row = sqlx::query(GOING).bind(batch.as_str()).fetch_one(self.connection()).await?;
        Ok(small(row.try_get(0)?))
    }

    /// Jobs that only their batch keeps, the most urgent first, then by row.
    pub(crate) async fn next_turns(&mut self, batch: &ShortId, limit: u32) -> Result<Vec<JobId>, Error> {
        let rows = sqlx::query(NEXT)
            .bind(batch.as_str())
            .bind(i64::from(limit))
            .fetch_all(self.connection())
            .await?;
        rows.iter().map(|row| job_id(row.try_get(0)?)).collect()
    }
}
