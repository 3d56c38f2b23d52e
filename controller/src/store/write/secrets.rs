//! Secrets, encrypted.

use super::Tx;
use crate::{
    jobs::OwnSecret,
    store::{
        DataKeyRow, Error, SecretKind, SecretRow,
        dialect::{bytes, rows},
        pack_list,
    },
};
use longshore_common::ids::JobId;

const PUT_OWN: &str = concat!(
    "INSERT INTO job_secrets (job_id, name, sealed, key_id) SELECT ",
    bytes!("v.value->>0"),
    ", v.value->>1, ",
    bytes!("v.value->>2"),
    ", CAST(v.value->>3 AS BIGINT) FROM ",
    rows!("$1"),
    " AS v WHERE true ON CONFLICT (job_id, name) DO UPDATE SET sealed = excluded.sealed, key_id = excluded.key_id",
);

impl Tx {
    pub(crate) async fn put_data_key(&mut self, key: &DataKeyRow) -> Result<(), Error> {
        sqlx::query("INSERT INTO data_keys (id, wrapped, created_at) VALUES ($1, $2, $3)")
            .bind(key.id)
            .bind(&key.wrapped)
            .bind(key.created_at.as_micros())
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// These and no others.
    pub(crate) async fn replace_data_keys(&mut self, keys: &[DataKeyRow]) -> Result<(), Error> {
        sqlx::query("DELETE FROM data_keys").execute(self.connection()).await?;
        for key in keys {
            self.put_data_key(key).await?;
        }
        Ok(())
    }

    /// Makes it, or gives it another value.
    pub(crate) async fn put_secret(&mut self, row: &SecretRow) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO secrets (project, kind, name, username, sealed, key_id, created_at, created_by, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (project, kind, name) DO UPDATE SET \
             username = excluded.username, sealed = excluded.sealed, key_id = excluded.key_id, \
             created_by = excluded.created_by, updated_at = excluded.updated_at",
        )
        .bind(&row.project)
        .bind(row.kind.as_str())
        .bind(&row.name)
        .bind(&row.username)
        .bind(&row.sealed)
        .bind(row.key_id)
        .bind(row.created_at.as_micros())
        .bind(&row.created_by)
        .bind(row.updated_at.as_micros())
        .execute(self.connection())
        .await?;
        Ok(())
    }

    pub(crate) async fn remove_secret(
        &mut self,
        project: &str,
        kind: SecretKind,
        name: &str,
    ) -> Result<(), Error> {
        sqlx::query("DELETE FROM secrets WHERE project = $1 AND kind = $2 AND name = $3")
            .bind(project)
            .bind(kind.as_str())
            .bind(name)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    pub(crate) async fn put_job_secrets(&mut self, secrets: &[(JobId, OwnSecret)]) -> Result<(), Error> {
        if secrets.is_empty() {
            return Ok(());
        }
        let packed = secrets.iter().map(|(job, secret)| {
            (hex::encode(job.as_bytes()), &secret.name, hex::encode(&secret.sealed), secret.key_id)
        });
        self.run(PUT_OWN, pack_list(packed)).await?;
        Ok(())
    }
}
