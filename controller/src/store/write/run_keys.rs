//! Run keys: noted before they are asked for, forgotten when they are taken back.

use super::Tx;
use crate::store::{Error, RunKeyRow};
use longshore_common::ids::AttemptRef;

impl Tx {
    /// Makes the row, or gives it its value.
    pub(crate) async fn put_run_key(&mut self, row: &RunKeyRow) -> Result<(), Error> {
        let (key_id, sealed) = row.sealed.clone().unzip();
        sqlx::query(
            "INSERT INTO run_keys (job_id, attempt, epoch, project, minter, told, sealed, key_id, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (job_id, attempt, epoch) DO UPDATE SET \
             sealed = excluded.sealed, key_id = excluded.key_id",
        )
        .bind(&row.attempt.job.as_bytes()[..])
        .bind(i64::from(row.attempt.number))
        .bind(i64::try_from(row.attempt.epoch.0).unwrap_or(i64::MAX))
        .bind(&row.project)
        .bind(&row.minter)
        .bind(&row.told)
        .bind(sealed)
        .bind(key_id)
        .bind(row.created_at.as_micros())
        .execute(self.connection())
        .await?;
        Ok(())
    }

    pub(crate) async fn drop_run_key(&mut self, attempt: AttemptRef) -> Result<(), Error> {
        sqlx::query("DELETE FROM run_keys WHERE job_id = $1 AND attempt = $2 AND epoch = $3")
            .bind(&attempt.job.as_bytes()[..])
            .bind(i64::from(attempt.number))
            .bind(i64::try_from(attempt.epoch.0).unwrap_or(i64::MAX))
            .execute(self.connection())
            .await?;
        Ok(())
    }
}
