//! Run keys: noted before they are asked for, forgotten when they are taken back.

use super::Tx;
use crate::store::{Error, RunKeyRow, rows::signed};
use longshore_common::{clock::Timestamp, ids::AttemptRef};

impl Tx {
    /// Makes the row, or gives it its value and what is known of the last call.
    pub(crate) async fn put_run_key(&mut self, row: &RunKeyRow) -> Result<(), Error> {
        let (key_id, sealed) = row.sealed.clone().unzip();
        sqlx::query(
            "INSERT INTO run_keys (job_id, attempt, epoch, project, minter, told, sealed, key_id, created_at, \
             unanswered_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (job_id, attempt, epoch) \
             DO UPDATE SET sealed = excluded.sealed, key_id = excluded.key_id, \
             unanswered_at = excluded.unanswered_at",
        )
        .bind(&row.attempt.job.as_bytes()[..])
        .bind(i64::from(row.attempt.number))
        .bind(signed(row.attempt.epoch.0))
        .bind(&row.project)
        .bind(&row.minter)
        .bind(&row.told)
        .bind(sealed)
        .bind(key_id)
        .bind(row.created_at.as_micros())
        .bind(row.unanswered_at.map(Timestamp::as_micros))
        .execute(self.connection())
        .await?;
        Ok(())
    }

    pub(crate) async fn drop_run_key(&mut self, attempt: AttemptRef) -> Result<(), Error> {
        sqlx::query("DELETE FROM run_keys WHERE job_id = $1 AND attempt = $2 AND epoch = $3")
            .bind(&attempt.job.as_bytes()[..])
            .bind(i64::from(attempt.number))
            .bind(signed(attempt.epoch.0))
            .execute(self.connection())
            .await?;
        Ok(())
    }
}
