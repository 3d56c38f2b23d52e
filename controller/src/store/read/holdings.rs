//! What projects' unfinished jobs hold: inside the writer's transaction, and outside of it.

use crate::{
    placement::Held,
    store::{Error, Store, Tx, rows::unsigned},
};
use sqlx::{Row as _, sqlite::SqliteRow};
use std::collections::HashMap;

const HELD: &str = "SELECT project, COUNT(*), SUM(cpu), SUM(memory), SUM(gpus) FROM jobs WHERE finished_at IS NULL \
     AND state IN ('claimed', 'preparing', 'running', 'collecting') GROUP BY project";
const AT_REST: &str = "SELECT project, COUNT(*) FROM jobs WHERE finished_at IS NULL \
     AND state IN ('waiting', 'queued') GROUP BY project";

/// Both are counted over unfinished jobs alone.
pub(crate) trait Holdings {
    async fn held(&mut self) -> Result<HashMap<String, Held>, Error>;
    /// Jobs that wait or are queued.
    async fn at_rest(&mut self) -> Result<HashMap<String, u64>, Error>;
}

impl Holdings for Tx {
    async fn held(&mut self) -> Result<HashMap<String, Held>, Error> {
        sqlx::query(HELD).fetch_all(self.connection()).await?.iter().map(held).collect()
    }

    async fn at_rest(&mut self) -> Result<HashMap<String, u64>, Error> {
        sqlx::query(AT_REST).fetch_all(self.connection()).await?.iter().map(count).collect()
    }
}

impl Holdings for &Store {
    async fn held(&mut self) -> Result<HashMap<String, Held>, Error> {
        sqlx::query(HELD).fetch_all(&self.read).await?.iter().map(held).collect()
    }

    async fn at_rest(&mut self) -> Result<HashMap<String, u64>, Error> {
        sqlx::query(AT_REST).fetch_all(&self.read).await?.iter().map(count).collect()
    }
}

impl Store {
    /// Bytes of the artifacts of all attempts of a project, and of its inputs, those on their way too.
    pub(crate) async fn stored_bytes(&self, project: &str) -> Result<u64, Error> {
        let row = sqlx::query(
            "SELECT (SELECT COALESCE(SUM(t.artifact_bytes), 0) FROM jobs AS j JOIN attempts AS t ON t.job_id = j.id \
             WHERE j.project = $1) + (SELECT COALESCE(SUM(bytes), 0) FROM inputs WHERE project = $1) \
             + (SELECT COALESCE(SUM(size), 0) FROM opened_contents WHERE project = $1)",
        )
        .bind(project)
        .fetch_one(&self.read)
        .await?;
        Ok(unsigned(row.try_get(0)?))
    }
}

fn held(row: &SqliteRow) -> Result<(String, Held), Error> {
    let held = Held {
        running: unsigned(row.try_get(1)?),
        cpu_millis: unsigned(row.try_get(2)?),
        memory: unsigned(row.try_get(3)?),
        gpus: unsigned(row.try_get(4)?),
    };
    Ok((row.try_get(0)?, held))
}

fn count(row: &SqliteRow) -> Result<(String, u64), Error> {
    Ok((row.try_get(0)?, unsigned(row.try_get(1)?)))
}
