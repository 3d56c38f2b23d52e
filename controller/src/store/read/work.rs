//! What the reconcilers look for.

use crate::store::{
    Dependency, Error, Store,
    rows::{jobs::job_id, parse, small, time, unsigned},
};
use longshore_common::{clock::Timestamp, ids::JobId, queue::Lane};
use sqlx::Row as _;
use std::collections::BTreeMap;

/// Counts over unfinished jobs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StatusRow {
    pub(crate) waiting: u64,
    pub(crate) queued: u64,
    pub(crate) held: u64,
    pub(crate) oldest_queued: Option<Timestamp>,
}

/// One step over the claim index per lane, not one per job.
const LANES: &str = "WITH RECURSIVE lanes (lane) AS (\
     SELECT (SELECT lane FROM jobs WHERE state = 'queued' ORDER BY lane LIMIT 1) \
     UNION ALL SELECT (SELECT j.lane FROM jobs AS j WHERE j.state = 'queued' AND j.lane > lanes.lane \
     ORDER BY j.lane LIMIT 1) FROM lanes WHERE lanes.lane IS NOT NULL) \
     SELECT lane, (SELECT COUNT(*) FROM (SELECT 1 FROM jobs AS q WHERE q.state = 'queued' \
     AND q.lane = lanes.lane LIMIT $1) AS few) AS queued FROM lanes WHERE lane IS NOT NULL";

impl Store {
    /// Lanes with queued jobs and how many, counted up to `limit`.
    pub(crate) async fn queued(&self, limit: u32) -> Result<BTreeMap<Lane, u32>, Error> {
        let rows = sqlx::query(LANES).bind(i64::from(limit)).fetch_all(&self.read).await?;
        rows.iter()
            .map(|row| Ok((parse("a lane", row.try_get("lane")?)?, small(row.try_get("queued")?))))
            .collect()
    }

    /// Queued jobs of one lane, counted up to `limit`.
    pub(crate) async fn queued_in(&self, lane: &Lane, limit: u32) -> Result<u32, Error> {
        let row = sqlx::query(
            "SELECT COUNT(*) FROM (SELECT 1 FROM jobs WHERE state = 'queued' AND lane = $1 LIMIT $2) AS few",
        )
        .bind(lane.as_str())
        .bind(i64::from(limit))
        .fetch_one(&self.read)
        .await?;
        Ok(small(row.try_get(0)?))
    }

    pub(crate) async fn status(&self) -> Result<StatusRow, Error> {
        let rows = sqlx::query("SELECT state, COUNT(*) FROM jobs WHERE finished_at IS NULL GROUP BY state")
            .fetch_all(&self.read)
            .await?;
        let mut status = StatusRow::default();
        for row in rows {
            use longshore_common::job::JobState as S;
            let count = unsigned(row.try_get(1)?);
            match parse::<S>("a job state", row.try_get(0)?)? {
                S::Waiting => status.waiting += count,
                S::Queued => status.queued += count,
                S::Claimed | S::Preparing | S::Running | S::Collecting => status.held += count,
                S::Succeeded | S::Failed | S::Cancelled | S::TimedOut => {}
            }
        }
        // Ids are in order of time: the first queued one is the oldest.
        let oldest = sqlx::query(
            "SELECT queued_at FROM jobs WHERE finished_at IS NULL AND state = 'queued' ORDER BY id LIMIT 1",
        )
        .fetch_optional(&self.read)
        .await?;
        status.oldest_queued = oldest.map(|row| row.try_get(0)).transpose().map(time)?;
        Ok(status)
    }

    /// Waiting jobs whose backoff is over, and the time of the next one that is not.
    pub(crate) async fn backoff_over(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<(Vec<JobId>, Option<Timestamp>), Error> {
        self.due(
            "SELECT id, not_before FROM jobs WHERE not_before IS NOT NULL AND blocked = 0 ORDER BY not_before LIMIT $1",
            now,
            limit,
        )
        .await
    }

    /// What this job waits for, or has waited for.
    pub(crate) async fn dependencies(&self, job: JobId) -> Result<Vec<Dependency>, Error> {
        let found = crate::store::write::dependencies(&self.read, &[job]).await?;
        Ok(found.into_values().flatten().collect())
    }

    /// Jobs whose queue deadline has passed, and the next deadline that has not.
    pub(crate) async fn queue_deadlines(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<(Vec<JobId>, Option<Timestamp>), Error> {
        self.due(
            "SELECT id, queue_deadline FROM jobs WHERE queue_deadline IS NOT NULL ORDER BY queue_deadline LIMIT $1",
            now,
            limit,
        )
        .await
    }

    async fn due(
        &self,
        sql: &'static str,
        now: Timestamp,
        limit: u32,
    ) -> Result<(Vec<JobId>, Option<Timestamp>), Error> {
        let rows = sqlx::query(sql).bind(i64::from(limit)).fetch_all(&self.read).await?;
        let mut due = Vec::new();
        for row in &rows {
            let at = Timestamp::from_micros(row.try_get(1)?);
            if at > now {
                return Ok((due, Some(at)));
            }
            due.push(job_id(row.try_get(0)?)?);
        }
        Ok((due, None))
    }

    /// Bytes elsewhere that nothing names any more.
    pub(crate) async fn garbage(&self, kind: &str, limit: u32) -> Result<Vec<String>, Error> {
        let rows = sqlx::query("SELECT name FROM garbage WHERE kind = $1 LIMIT $2")
            .bind(kind)
            .bind(i64::from(limit))
            .fetch_all(&self.read)
            .await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }
}
