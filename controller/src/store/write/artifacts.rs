//! Manifests. Their pages are kept aside; an attempt's `reported` flag is what commits them.

use super::Tx;
use crate::store::{
    Error,
    dialect::{bytes, rows},
    pack_list,
    rows::{signed, unsigned},
};
use longshore_common::{
    artifact::ManifestEntry,
    ids::{AttemptRef, JobId},
};
use serde::Serialize;
use sqlx::Row as _;
use std::collections::HashMap;

#[derive(Serialize)]
struct Packed {
    path: String,
    ordinal: i64,
    size: i64,
    sha256: String,
    mode: u32,
    modified_at: Option<i64>,
}

const INSERT: &str = concat!(
    "INSERT INTO artifacts (job_id, number, page, path, ordinal, size, sha256, mode, modified_at) \
     SELECT $2, $3, $4, ",
    bytes!("v.value->>'path'"),
    ", CAST(v.value->>'ordinal' AS BIGINT), CAST(v.value->>'size' AS BIGINT), ",
    bytes!("v.value->>'sha256'"),
    ", CAST(v.value->>'mode' AS BIGINT), CAST(v.value->>'modified_at' AS BIGINT) FROM ",
    rows!("$1"),
    " AS v WHERE true ON CONFLICT (job_id, number, path) DO UPDATE SET page = excluded.page, \
     ordinal = excluded.ordinal, size = excluded.size, sha256 = excluded.sha256, mode = excluded.mode, \
     modified_at = excluded.modified_at",
);

const COUNTS: &str = concat!(
    "SELECT p.job_id, p.number, COUNT(*) AS pages, MAX(p.page) AS last, CAST(SUM(p.entries) AS BIGINT) AS entries \
     FROM ",
    rows!("$1"),
    " AS v JOIN manifest_pages AS p ON p.job_id = ",
    bytes!("v.value->>0"),
    " AND p.number = CAST(v.value->>1 AS BIGINT) GROUP BY p.job_id, p.number",
);

const SURPLUS: &str = concat!(
    "SELECT DISTINCT p.job_id, p.number, CAST(v.value->>2 AS BIGINT) AS first FROM ",
    rows!("$1"),
    " AS v JOIN manifest_pages AS p ON p.job_id = ",
    bytes!("v.value->>0"),
    " AND p.number = CAST(v.value->>1 AS BIGINT) AND p.page >= CAST(v.value->>2 AS BIGINT)",
);

const DROP_PAGES: [&str; 2] = [
    "DELETE FROM artifacts WHERE job_id = $1 AND number = $2 AND page >= $3",
    "DELETE FROM manifest_pages WHERE job_id = $1 AND number = $2 AND page >= $3",
];

/// What has arrived of a manifest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) pages: u64,
    /// Number of the last page.
    pub(crate) last: u64,
    pub(crate) entries: u64,
}

impl Tx {
    /// Objects with an ordinal below `opened` may come to be.
    pub(crate) async fn note_opened(&mut self, attempt: AttemptRef, opened: u64) -> Result<(), Error> {
        sqlx::query(
            "UPDATE attempts SET opened = $4 WHERE job_id = $1 AND number = $2 AND epoch = $3 AND opened < $4",
        )
        .bind(&attempt.job.as_bytes()[..])
        .bind(i64::from(attempt.number))
        .bind(signed(attempt.epoch.0))
        .bind(signed(opened))
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// A repeat of a page replaces it. The first page begins a manifest anew: an agent that was restarted collects
    /// again, and files may come in another order. One that comes after the report changes nothing.
    pub(crate) async fn put_page(
        &mut self,
        attempt: AttemptRef,
        page: u32,
        entries: &[ManifestEntry],
    ) -> Result<(), Error> {
        let job = &attempt.job.as_bytes()[..];
        let number = i64::from(attempt.number);
        let open = sqlx::query("SELECT 1 FROM attempts WHERE job_id = $1 AND number = $2 AND reported = 0")
            .bind(job)
            .bind(number)
            .fetch_optional(self.connection())
            .await?;
        if open.is_none() {
            return Ok(());
        }
        let bytes = entries.iter().fold(0_u64, |sum, entry| sum.saturating_add(entry.artifact.size));
        let known =
            sqlx::query("DELETE FROM manifest_pages WHERE job_id = $1 AND number = $2 AND $3 IN (0, page)")
                .bind(job)
                .bind(number)
                .bind(i64::from(page))
                .execute(self.connection())
                .await?;
        if known.rows_affected() > 0 {
            sqlx::query("DELETE FROM artifacts WHERE job_id = $1 AND number = $2 AND $3 IN (0, page)")
                .bind(job)
                .bind(number)
                .bind(i64::from(page))
                .execute(self.connection())
                .await?;
        }
        sqlx::query(
            "INSERT INTO manifest_pages (job_id, number, page, entries, bytes) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(job)
        .bind(number)
        .bind(i64::from(page))
        .bind(signed(entries.len() as u64))
        .bind(signed(bytes))
        .execute(self.connection())
        .await?;
        sqlx::query(INSERT)
            .bind(pack(entries))
            .bind(job)
            .bind(number)
            .bind(i64::from(page))
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// What arrived for each attempt from this page on was never listed.
    pub(crate) async fn drop_pages(&mut self, from: &[(AttemptRef, u32)]) -> Result<(), Error> {
        if from.is_empty() {
            return Ok(());
        }
        let list = pack_list(from.iter().map(|(a, page)| (hex::encode(a.job.as_bytes()), a.number, *page)));
        let surplus = sqlx::query(SURPLUS).bind(list).fetch_all(self.connection()).await?;
        for row in surplus {
            let job: Vec<u8> = row.try_get("job_id")?;
            let (number, first): (i64, i64) = (row.try_get("number")?, row.try_get("first")?);
            for sql in DROP_PAGES {
                sqlx::query(sql).bind(&job).bind(number).bind(first).execute(self.connection()).await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn manifests(
        &mut self,
        attempts: &[AttemptRef],
    ) -> Result<HashMap<(JobId, u32), Arrived>, Error> {
        if attempts.is_empty() {
            return Ok(HashMap::new());
        }
        let list = pack_list(attempts.iter().map(|a| (hex::encode(a.job.as_bytes()), a.number)));
        let rows = sqlx::query(COUNTS).bind(list).fetch_all(self.connection()).await?;
        rows.iter()
            .map(|row| {
                let job = crate::store::rows::jobs::job_id(row.try_get("job_id")?)?;
                let arrived = Arrived {
                    pages: unsigned(row.try_get("pages")?),
                    last: unsigned(row.try_get("last")?),
                    entries: unsigned(row.try_get("entries")?),
                };
                Ok(((job, crate::store::rows::small(row.try_get("number")?)), arrived))
            })
            .collect()
    }
}

fn pack(entries: &[ManifestEntry]) -> String {
    pack_list(entries.iter().map(|ManifestEntry { ordinal, artifact }| Packed {
        path: hex::encode(&artifact.path),
        ordinal: signed(*ordinal),
        size: signed(artifact.size),
        sha256: hex::encode(artifact.sha256),
        mode: artifact.mode,
        modified_at: crate::store::rows::micros(artifact.modified_at),
    }))
}
