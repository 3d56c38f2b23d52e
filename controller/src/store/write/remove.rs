//! Taking rows away. What bytes they named goes to `garbage` in the same transaction, so that a crash in between
//! forgets nothing.

use super::{Tx, jobs::pack_ids};
use crate::{
    jobs::OBJECT_KEYS,
    store::{
        Error,
        dialect::{bytes, item, rows, text},
        pack_list,
    },
};
use longshore_common::{clock::Timestamp, ids::JobId};
use sqlx::Row as _;

const OBJECTS: &str = concat!(
    "INSERT INTO garbage (kind, name) SELECT 'object', $2 || t.nonce || '/' || f.ordinal FROM ",
    rows!("$1"),
    " AS v JOIN attempts AS t ON t.job_id = ",
    bytes!("v.value"),
    " JOIN artifacts AS f ON f.job_id = t.job_id AND f.number = t.number WHERE true \
     ON CONFLICT (kind, name) DO NOTHING",
);

/// What was opened for upload, whether a manifest lists it or not.
const OPENED: &str = concat!(
    "WITH RECURSIVE objects (nonce, ordinal) AS (SELECT t.nonce, t.opened - 1 FROM ",
    rows!("$1"),
    " AS v JOIN attempts AS t ON t.job_id = ",
    bytes!("v.value"),
    " WHERE t.opened > 0 UNION ALL SELECT nonce, ordinal - 1 FROM objects WHERE ordinal > 0) \
     INSERT INTO garbage (kind, name) SELECT 'object', $2 || o.nonce || '/' || o.ordinal FROM objects AS o \
     WHERE true ON CONFLICT (kind, name) DO NOTHING",
);

const LOGS: &str = concat!(
    "INSERT INTO garbage (kind, name) SELECT 'log', ",
    text!("t.job_id"),
    " || '.' || t.number || '.' || t.epoch FROM ",
    rows!("$1"),
    " AS v JOIN attempts AS t ON t.job_id = ",
    bytes!("v.value"),
    " WHERE true ON CONFLICT (kind, name) DO NOTHING",
);

const BATCHES_OF: &str = concat!(
    "SELECT DISTINCT j.batch FROM ",
    rows!("$1"),
    " AS v JOIN jobs AS j ON j.id = ",
    bytes!("v.value"),
    " WHERE j.batch IS NOT NULL",
);

/// A batch goes with the last of its jobs.
const EMPTY_BATCHES: &str = concat!(
    "DELETE FROM batches WHERE id IN (SELECT ",
    item!("v.value"),
    " FROM ",
    rows!("$1"),
    " AS v) AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.batch = batches.id)",
);

macro_rules! delete {
    ($table:literal, $column:literal) => {
        concat!(
            "DELETE FROM ",
            $table,
            " WHERE ",
            $column,
            " IN (SELECT ",
            bytes!("v.value"),
            " FROM ",
            rows!("$1"),
            " AS v)"
        )
    };
}

const DELETES: [&str; 7] = [
    delete!("artifacts", "job_id"),
    delete!("manifest_pages", "job_id"),
    delete!("attempts", "job_id"),
    delete!("job_specs", "job_id"),
    delete!("job_sources", "job_id"),
    delete!("job_secrets", "job_id"),
    delete!("jobs", "id"),
];

const DROP_GARBAGE: &str = concat!(
    "DELETE FROM garbage WHERE kind = $2 AND name IN (SELECT ",
    item!("v.value"),
    " FROM ",
    rows!("$1"),
    " AS v)",
);

/// Neither named by a submit for long nor by a job that has yet to run.
const UNUSED_INPUTS: &str = "SELECT id FROM inputs AS i WHERE used_at < $1 AND NOT EXISTS \
     (SELECT 1 FROM job_sources AS s JOIN jobs AS j ON j.id = s.job_id \
     WHERE s.kind = 'input' AND s.name = i.id AND j.finished_at IS NULL) LIMIT $2";

/// Contents of the input that no other input names.
const CONTENTS: &str = concat!(
    "INSERT INTO garbage (kind, name) SELECT DISTINCT 'object', f.folder || ",
    text!("f.sha256"),
    " FROM input_files AS f WHERE f.input_id = $1 AND NOT EXISTS \
     (SELECT 1 FROM input_files AS o WHERE o.sha256 = f.sha256 AND o.folder = f.folder AND o.input_id <> $1) \
     ON CONFLICT (kind, name) DO NOTHING",
);

impl Tx {
    pub(crate) async fn remove_jobs(&mut self, ids: &[JobId]) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let list = pack_ids(ids);
        sqlx::query(OBJECTS).bind(&list).bind(OBJECT_KEYS).execute(self.connection()).await?;
        sqlx::query(OPENED).bind(&list).bind(OBJECT_KEYS).execute(self.connection()).await?;
        self.run(LOGS, list.clone()).await?;
        let batches = sqlx::query(BATCHES_OF).bind(&list).fetch_all(self.connection()).await?;
        let batches: Vec<&str> = batches.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        for sql in DELETES {
            self.run(sql, list.clone()).await?;
        }
        if !batches.is_empty() {
            self.run(EMPTY_BATCHES, pack_list(batches)).await?;
        }
        Ok(())
    }

    /// Inputs that no submit has named since `before` and no unfinished job needs. Answers how many went.
    pub(crate) async fn remove_inputs(&mut self, before: Timestamp, limit: u32) -> Result<u32, Error> {
        let rows = sqlx::query(UNUSED_INPUTS)
            .bind(before.as_micros())
            .bind(i64::from(limit))
            .fetch_all(self.connection())
            .await?;
        let mut removed = 0;
        for row in &rows {
            let id: &str = row.try_get(0)?;
            self.run(CONTENTS, id.to_owned()).await?;
            self.run("DELETE FROM input_files WHERE input_id = $1", id.to_owned()).await?;
            self.run("DELETE FROM inputs WHERE id = $1", id.to_owned()).await?;
            removed += 1;
        }
        Ok(removed)
    }

    /// The bytes have gone.
    pub(crate) async fn drop_garbage(&mut self, kind: &str, names: &[String]) -> Result<(), Error> {
        sqlx::query(DROP_GARBAGE).bind(pack_list(names)).bind(kind).execute(self.connection()).await?;
        Ok(())
    }
}
