//! What a claim reads and leaves behind.

use super::Tx;
use crate::store::{
    Error, ViewRow,
    dialect::{bytes, rows},
    pack_list,
    rows::{
        jobs::{agent_id, job_id},
        signed,
    },
};
use longshore_common::{
    agent::Capacity,
    clock::Timestamp,
    ids::{AgentId, ClaimId, JobId},
    queue::Lane,
};
use serde::Serialize;
use sqlx::Row as _;

/// Rank, queue time and id: where a job stands in its lane.
pub(crate) type Position = (i64, Timestamp, JobId);

/// Queued jobs of a project in a lane that ask for no more than `free`, in their order, past the last one seen.
#[derive(Clone, Debug)]
pub(crate) struct CandidateQuery<'a> {
    pub(crate) lane: &'a Lane,
    pub(crate) project: &'a str,
    pub(crate) free: Capacity,
    pub(crate) limit: u32,
    /// The last candidate of the page before.
    pub(crate) after: Option<Position>,
}

/// A claim that granted something.
#[derive(Clone, Debug)]
pub(crate) struct ClaimRow {
    pub(crate) id: ClaimId,
    pub(crate) agent: AgentId,
    pub(crate) grants: Vec<(JobId, u32)>,
}

#[derive(Serialize)]
struct Packed {
    id: String,
    agent_id: String,
    grants: String,
}

pub(in crate::store) const CANDIDATES: &str = "SELECT j.*, s.spec, NULL AS agent_name FROM jobs AS j JOIN job_specs AS s ON s.job_id = j.id \
     WHERE j.state = 'queued' AND j.lane = $1 AND j.cpu <= $2 AND j.memory <= $3 AND j.scratch <= $4 \
     AND j.gpus <= $5 AND (j.rank, j.queued_at, j.id) > ($6, $7, $8) AND j.project = $10 \
     ORDER BY j.rank, j.queued_at, j.id LIMIT $9";

/// Of a project's first jobs of a lane, those that ask for no more than this: a look, not a search.
const FIRST_FITTING: &str = "SELECT j.*, s.spec, NULL AS agent_name FROM (SELECT id, cpu, memory, scratch, gpus \
     FROM jobs WHERE state = 'queued' AND lane = $1 AND project = $7 ORDER BY rank, queued_at, id LIMIT $8) AS q \
     JOIN jobs AS j ON j.id = q.id JOIN job_specs AS s ON s.job_id = q.id \
     WHERE q.cpu <= $2 AND q.memory <= $3 AND q.scratch <= $4 AND q.gpus <= $5 LIMIT $6";

/// Of a project's first jobs of a lane, those that waited long and ask for more than this.
const OVERDUE: &str = "SELECT j.*, s.spec, NULL AS agent_name FROM (SELECT id, queued_at, cpu, memory, scratch, gpus \
     FROM jobs WHERE state = 'queued' AND lane = $1 AND project = $2 ORDER BY rank, queued_at, id LIMIT 256) AS q \
     JOIN jobs AS j ON j.id = q.id JOIN job_specs AS s ON s.job_id = q.id WHERE q.queued_at <= $3 \
     AND (q.cpu > $4 OR q.memory > $5 OR q.scratch > $6 OR q.gpus > $7) LIMIT $8";

/// One look into the index for each project, however many jobs they have.
pub(in crate::store) const PROJECTS_IN: &str = "WITH RECURSIVE p (project) AS (\
     SELECT MIN(project) FROM jobs WHERE state = 'queued' AND lane = $1 UNION ALL \
     SELECT (SELECT MIN(project) FROM jobs WHERE state = 'queued' AND lane = $1 AND project > p.project) \
     FROM p WHERE p.project IS NOT NULL) SELECT project FROM p WHERE project IS NOT NULL LIMIT 1000";

const INSERT: &str = concat!(
    "INSERT INTO claims (id, agent_id, grants, created_at) SELECT ",
    bytes!("v.value->>'id'"),
    ", ",
    bytes!("v.value->>'agent_id'"),
    ", v.value->>'grants', $2 FROM ",
    rows!("$1"),
    " AS v WHERE true ON CONFLICT (id) DO NOTHING",
);

const FIND: &str = concat!(
    "SELECT c.id, c.agent_id, c.grants FROM ",
    rows!("$1"),
    " AS v JOIN claims AS c ON c.id = ",
    bytes!("v.value"),
);

impl Tx {
    pub(crate) async fn candidates(&mut self, query: &CandidateQuery<'_>) -> Result<Vec<ViewRow>, Error> {
        let (rank, queued_at, id) = match query.after {
            Some((rank, queued_at, id)) => (rank, queued_at.as_micros(), id.as_bytes().to_vec()),
            None => (i64::MIN, i64::MIN, Vec::new()),
        };
        let rows = sqlx::query(CANDIDATES)
            .bind(query.lane.as_str())
            .bind(i64::from(query.free.cpu_millis))
            .bind(signed(query.free.memory_bytes))
            .bind(signed(query.free.scratch_bytes))
            .bind(i64::from(query.free.gpus))
            .bind(rank)
            .bind(queued_at)
            .bind(id)
            .bind(i64::from(query.limit))
            .bind(query.project)
            .fetch_all(self.connection())
            .await?;
        rows.iter().map(ViewRow::read).collect()
    }

    /// Projects that have queued jobs in a lane.
    pub(crate) async fn projects_in(&mut self, lane: &Lane) -> Result<Vec<String>, Error> {
        let rows = sqlx::query(PROJECTS_IN).bind(lane.as_str()).fetch_all(self.connection()).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Some of the first `look` jobs of a project in a lane that ask for no more than `free`.
    pub(crate) async fn first_fitting(
        &mut self,
        (lane, project): (&Lane, &str),
        free: Capacity,
        (look, limit): (u32, u32),
    ) -> Result<Vec<ViewRow>, Error> {
        let rows = sqlx::query(FIRST_FITTING)
            .bind(lane.as_str())
            .bind(i64::from(free.cpu_millis))
            .bind(signed(free.memory_bytes))
            .bind(signed(free.scratch_bytes))
            .bind(i64::from(free.gpus))
            .bind(i64::from(limit))
            .bind(project)
            .bind(i64::from(look))
            .fetch_all(self.connection())
            .await?;
        rows.iter().map(ViewRow::read).collect()
    }

    /// Some of a project's jobs in a lane that were queued before `then` and ask for more than `free`.
    pub(crate) async fn overdue(
        &mut self,
        (lane, project): (&Lane, &str),
        free: Capacity,
        then: Timestamp,
        limit: usize,
    ) -> Result<Vec<ViewRow>, Error> {
        let rows = sqlx::query(OVERDUE)
            .bind(lane.as_str())
            .bind(project)
            .bind(then.as_micros())
            .bind(i64::from(free.cpu_millis))
            .bind(signed(free.memory_bytes))
            .bind(signed(free.scratch_bytes))
            .bind(i64::from(free.gpus))
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(self.connection())
            .await?;
        rows.iter().map(ViewRow::read).collect()
    }

    /// Up to `limit` queued jobs of a lane, whatever they ask for.
    pub(crate) async fn queued_ids(&mut self, lane: &Lane, limit: u32) -> Result<Vec<JobId>, Error> {
        let rows = sqlx::query("SELECT id FROM jobs WHERE state = 'queued' AND lane = $1 LIMIT $2")
            .bind(lane.as_str())
            .bind(i64::from(limit))
            .fetch_all(self.connection())
            .await?;
        rows.iter().map(|row| job_id(row.try_get(0)?)).collect()
    }

    pub(crate) async fn insert_claims(&mut self, claims: &[ClaimRow], now: Timestamp) -> Result<(), Error> {
        if claims.is_empty() {
            return Ok(());
        }
        let list = pack_list(claims.iter().map(|claim| Packed {
            id: hex::encode(claim.id.as_bytes()),
            agent_id: hex::encode(claim.agent.as_bytes()),
            grants: pack_list(claim.grants.iter().map(|(job, number)| (hex::encode(job.as_bytes()), number))),
        }));
        sqlx::query(INSERT).bind(list).bind(now.as_micros()).execute(self.connection()).await?;
        Ok(())
    }

    pub(crate) async fn find_claims(&mut self, ids: &[ClaimId]) -> Result<Vec<ClaimRow>, Error> {
        let list = pack_list(ids.iter().map(|id| hex::encode(id.as_bytes())));
        let rows = sqlx::query(FIND).bind(list).fetch_all(self.connection()).await?;
        rows.iter().map(read).collect()
    }

    /// Claims so old that nobody repeats them, and requests whose job is gone and whose time is over.
    pub(crate) async fn forget(&mut self, claims: Timestamp, requests: Timestamp) -> Result<(), Error> {
        sqlx::query("DELETE FROM claims WHERE created_at < $1")
            .bind(claims.as_micros())
            .execute(self.connection())
            .await?;
        sqlx::query(
            "DELETE FROM requests WHERE created_at < $1 \
             AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = requests.job_id)",
        )
        .bind(requests.as_micros())
        .execute(self.connection())
        .await?;
        sqlx::query(
            "DELETE FROM batch_requests WHERE created_at < $1 \
             AND NOT EXISTS (SELECT 1 FROM batches WHERE batches.id = batch_requests.batch)",
        )
        .bind(requests.as_micros())
        .execute(self.connection())
        .await?;
        sqlx::query("DELETE FROM action_requests WHERE created_at < $1")
            .bind(requests.as_micros())
            .execute(self.connection())
            .await?;
        Ok(())
    }
}

fn read(row: &sqlx::sqlite::SqliteRow) -> Result<ClaimRow, Error> {
    let id: &[u8] = row.try_get("id")?;
    let grants: Vec<(String, u32)> =
        serde_json::from_str(row.try_get("grants")?).map_err(|error| Error::corrupt("a claim", error))?;
    let grants = grants.into_iter().map(|(job, number)| {
        let bytes = hex::decode(&job).map_err(|error| Error::corrupt("a claim", error))?;
        Ok((job_id(&bytes)?, number))
    });
    Ok(ClaimRow {
        id: ClaimId::from_slice(id).map_err(|error| Error::corrupt("a claim id", error))?,
        agent: agent_id(row.try_get("agent_id")?)?,
        grants: grants.collect::<Result<_, Error>>()?,
    })
}
