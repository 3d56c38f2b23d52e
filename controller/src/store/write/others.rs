//! Agents, requests and times that have passed.

use super::Tx;
use crate::store::{
    AgentRow, Error, RequestRow,
    dialect::{bytes, rows},
    pack_list,
    rows::{jobs::job_id, others},
};
use longshore_common::{clock::Timestamp, ids::AgentId};
use sqlx::Row as _;

const FIND_REQUESTS: &str = concat!(
    "SELECT r.* FROM ",
    rows!("$1"),
    " AS v JOIN requests AS r ON r.project = v.value->>0 AND r.request_id = v.value->>1",
);

const INSERT_REQUESTS: &str = concat!(
    "INSERT INTO requests (project, request_id, digest, job_id, short_id, created_at) \
     SELECT v.value->>'project', v.value->>'request_id', ",
    bytes!("v.value->>'digest'"),
    ", ",
    bytes!("v.value->>'job_id'"),
    ", v.value->>'short_id', $2 FROM ",
    rows!("$1"),
    " AS v",
);

const SEEN: &str = concat!(
    "UPDATE agents SET seen_at = CAST(v.value->>1 AS BIGINT) FROM ",
    rows!("$1"),
    " AS v WHERE agents.id = ",
    bytes!("v.value->>0"),
);

impl Tx {
    /// Requests by project and id.
    pub(crate) async fn find_requests(&mut self, ids: &[(&str, &str)]) -> Result<Vec<RequestRow>, Error> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows = sqlx::query(FIND_REQUESTS).bind(pack_list(ids)).fetch_all(self.connection()).await?;
        rows.iter()
            .map(|row| {
                let short_id: &str = row.try_get("short_id")?;
                Ok(RequestRow {
                    project: row.try_get("project")?,
                    request_id: row.try_get("request_id")?,
                    digest: row.try_get("digest")?,
                    job: job_id(row.try_get("job_id")?)?,
                    short_id: short_id.parse().map_err(|error| Error::corrupt("a short id", error))?,
                })
            })
            .collect()
    }

    pub(crate) async fn insert_requests(&mut self, new: &[RequestRow], now: Timestamp) -> Result<(), Error> {
        if !new.is_empty() {
            sqlx::query(INSERT_REQUESTS)
                .bind(others::pack_requests(new))
                .bind(now.as_micros())
                .execute(self.connection())
                .await?;
        }
        Ok(())
    }

    pub(crate) async fn put_agent(&mut self, agent: &AgentRow) -> Result<(), Error> {
        let (identity, inventory) = agent.packed();
        sqlx::query(
            "INSERT INTO agents (id, name, identity, inventory, seen_at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, identity = excluded.identity, \
             inventory = excluded.inventory, seen_at = excluded.seen_at, removed_at = NULL",
        )
        .bind(&agent.identity.id.as_bytes()[..])
        .bind(&agent.identity.name)
        .bind(identity)
        .bind(inventory)
        .bind(agent.seen_at.as_micros())
        .execute(self.connection())
        .await?;
        Ok(())
    }

    pub(crate) async fn agents_seen(&mut self, seen: &[(AgentId, Timestamp)]) -> Result<(), Error> {
        let list = pack_list(seen.iter().map(|(id, at)| (hex::encode(id.as_bytes()), at.as_micros())));
        self.run(SEEN, list).await?;
        Ok(())
    }
}
