//! Secrets as they are stored: encrypted.

use crate::{
    jobs::OwnSecret,
    store::{DataKeyRow, Error, SecretRow, Store},
};
use longshore_common::ids::JobId;
use sqlx::{Row as _, sqlite::SqliteRow};

impl Store {
    /// By id.
    pub(crate) async fn data_keys(&self) -> Result<Vec<DataKeyRow>, Error> {
        let rows = sqlx::query("SELECT * FROM data_keys ORDER BY id").fetch_all(&self.read).await?;
        rows.iter().map(DataKeyRow::read).collect()
    }

    pub(crate) async fn secret_rows(&self) -> Result<Vec<SecretRow>, Error> {
        let rows = sqlx::query("SELECT * FROM secrets").fetch_all(&self.read).await?;
        rows.iter().map(SecretRow::read).collect()
    }

    pub(crate) async fn job_secrets(&self, job: JobId) -> Result<Vec<OwnSecret>, Error> {
        let rows =
            sqlx::query("SELECT name, sealed, key_id FROM job_secrets WHERE job_id = $1 ORDER BY name")
                .bind(&job.as_bytes()[..])
                .fetch_all(&self.read)
                .await?;
        rows.iter().map(own).collect()
    }

    /// With the projects of their jobs.
    pub(crate) async fn all_job_secrets(&self) -> Result<Vec<(JobId, String, OwnSecret)>, Error> {
        let rows = sqlx::query(
            "SELECT s.job_id, j.project, s.name, s.sealed, s.key_id FROM job_secrets AS s \
             JOIN jobs AS j ON j.id = s.job_id",
        )
        .fetch_all(&self.read)
        .await?;
        let read = |row: &SqliteRow| {
            let job: Vec<u8> = row.try_get("job_id")?;
            let job = JobId::from_slice(&job).map_err(|error| Error::corrupt("a job id", error))?;
            Ok((job, row.try_get("project")?, own(row)?))
        };
        rows.iter().map(read).collect()
    }
}

fn own(row: &SqliteRow) -> Result<OwnSecret, Error> {
    Ok(OwnSecret {
        name: row.try_get("name")?,
        sealed: row.try_get("sealed")?,
        key_id: row.try_get("key_id")?,
        mark: Vec::new(),
    })
}
