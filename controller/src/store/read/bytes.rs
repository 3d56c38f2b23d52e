//! Names and digests of artifacts and inputs.

use crate::{
    jobs::InputFile,
    store::{
        Error, Store,
        dialect::{bytes, rows},
        pack_list,
        rows::{small, time, unsigned},
    },
};
use longshore_common::{
    artifact::{Artifact, ManifestEntry},
    ids::AttemptRef,
};
use sqlx::{Row as _, sqlite::SqliteRow};

const FIND: &str = concat!(
    "SELECT f.* FROM ",
    rows!("$1"),
    " AS v JOIN artifacts AS f ON f.job_id = $2 AND f.number = $3 AND f.path = ",
    bytes!("v.value"),
);

impl Store {
    /// In path order, past `after`, with paths that begin with `prefix`.
    pub(crate) async fn artifacts(
        &self,
        attempt: AttemptRef,
        prefix: &[u8],
        after: &[u8],
        limit: u32,
    ) -> Result<Vec<ManifestEntry>, Error> {
        // Everything that begins with the prefix lies before the prefix with a last byte counted up.
        let end = past(prefix);
        let rows = sqlx::query(
            "SELECT * FROM artifacts WHERE job_id = $1 AND number = $2 AND path >= $3 AND path > $4 \
             AND ($5 IS NULL OR path < $5) ORDER BY path LIMIT $6",
        )
        .bind(&attempt.job.as_bytes()[..])
        .bind(i64::from(attempt.number))
        .bind(prefix)
        .bind(after)
        .bind(end)
        .bind(i64::from(limit))
        .fetch_all(&self.read)
        .await?;
        rows.iter().map(entry).collect()
    }

    pub(crate) async fn find_artifacts(
        &self,
        attempt: AttemptRef,
        paths: &[Vec<u8>],
    ) -> Result<Vec<ManifestEntry>, Error> {
        let rows = sqlx::query(FIND)
            .bind(pack_list(paths.iter().map(hex::encode)))
            .bind(&attempt.job.as_bytes()[..])
            .bind(i64::from(attempt.number))
            .fetch_all(&self.read)
            .await?;
        rows.iter().map(entry).collect()
    }

    /// Whether the project has uploaded it.
    pub(crate) async fn input_exists(&self, project: &str, input: &str) -> Result<bool, Error> {
        let row = sqlx::query("SELECT 1 FROM inputs WHERE id = $1 AND project = $2")
            .bind(input)
            .bind(project)
            .fetch_optional(&self.read)
            .await?;
        Ok(row.is_some())
    }

    /// In path order, past `after`.
    pub(crate) async fn input_files(
        &self,
        input: &str,
        after: &[u8],
        limit: u32,
    ) -> Result<Vec<InputFile>, Error> {
        let rows = sqlx::query(
            "SELECT path, size, sha256, mode FROM input_files WHERE input_id = $1 AND path > $2 \
             ORDER BY path LIMIT $3",
        )
        .bind(input)
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(&self.read)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(InputFile {
                    path: row.try_get("path")?,
                    size: unsigned(row.try_get("size")?),
                    sha256: digest(row)?,
                    mode: small(row.try_get("mode")?),
                })
            })
            .collect()
    }
}

fn past(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

fn entry(row: &SqliteRow) -> Result<ManifestEntry, Error> {
    Ok(ManifestEntry {
        ordinal: unsigned(row.try_get("ordinal")?),
        artifact: Artifact {
            path: row.try_get("path")?,
            size: unsigned(row.try_get("size")?),
            sha256: digest(row)?,
            mode: small(row.try_get("mode")?),
            modified_at: time(row.try_get("modified_at")?),
        },
    })
}

fn digest(row: &SqliteRow) -> Result<[u8; 32], Error> {
    let bytes: &[u8] = row.try_get("sha256")?;
    bytes.try_into().map_err(|_| Error::corrupt("a digest", bytes.len()))
}
