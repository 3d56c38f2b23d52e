//! Batches as people ask for them. What one is like is counted from its jobs.

use crate::store::{
    BatchRow, Error, Store,
    dialect::{item, rows},
    pack_list,
    rows::{jobs::job_id, parse, small, time},
    write::GOING,
};
use longshore_common::{
    clock::Timestamp,
    ids::{JobId, ShortId},
    job::JobState,
};
use sqlx::Row as _;
use std::collections::HashMap;

/// Jobs of a batch in one state, and when the last of them ended.
pub(crate) type StateCount = (JobState, u32, Option<Timestamp>);

pub(in crate::store) const COUNTS: &str = concat!(
    "SELECT j.batch, j.state, COUNT(*), MAX(j.finished_at) FROM ",
    rows!("$1"),
    " AS v JOIN jobs AS j ON j.batch = ",
    item!("v.value"),
    " GROUP BY j.batch, j.state",
);

const LIST: &str = "SELECT * FROM batches AS b WHERE ($1 IS NULL OR b.project = $1) \
     AND ($2 = 0 OR EXISTS (SELECT 1 FROM jobs AS j WHERE j.batch = b.id AND j.finished_at IS NULL)) \
     AND (b.created_at, b.id) < ($3, $4) ORDER BY b.created_at DESC, b.id DESC LIMIT $5";

const PREFIX: &str =
    "SELECT id FROM batches WHERE id >= $1 AND id < $2 AND ($3 IS NULL OR project = $3) LIMIT 2";

const NAMED: &str = "SELECT id FROM batches WHERE name = $1 AND ($2 IS NULL OR project = $2) \
     ORDER BY created_at DESC, id DESC LIMIT 1";

impl Store {
    pub(crate) async fn batch(&self, id: &ShortId) -> Result<Option<BatchRow>, Error> {
        let row = sqlx::query("SELECT * FROM batches WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&self.read)
            .await?;
        row.as_ref().map(BatchRow::read).transpose()
    }

    /// Newest first, before this place.
    pub(crate) async fn batches(
        &self,
        (project, unfinished): (Option<&str>, bool),
        before: Option<&(Timestamp, ShortId)>,
        limit: u32,
    ) -> Result<Vec<BatchRow>, Error> {
        let (at, id) = before.map_or((i64::MAX, ""), |(at, id)| (at.as_micros(), id.as_str()));
        let rows = sqlx::query(LIST)
            .bind(project)
            .bind(i64::from(unfinished))
            .bind(at)
            .bind(id)
            .bind(i64::from(limit))
            .fetch_all(&self.read)
            .await?;
        rows.iter().map(BatchRow::read).collect()
    }

    /// Of each of these batches.
    pub(crate) async fn batch_counts(
        &self,
        batches: impl Iterator<Item = &ShortId>,
    ) -> Result<HashMap<ShortId, Vec<StateCount>>, Error> {
        let list = pack_list(batches.map(ShortId::as_str));
        let mut counts: HashMap<_, Vec<_>> = HashMap::new();
        for row in sqlx::query(COUNTS).bind(list).fetch_all(&self.read).await? {
            let state = parse("a job state", row.try_get(1)?)?;
            let count = (state, small(row.try_get(2)?), time(row.try_get(3)?));
            counts.entry(parse("a batch id", row.try_get(0)?)?).or_default().push(count);
        }
        Ok(counts)
    }

    /// Ids that begin so, two at most.
    pub(crate) async fn batches_by_id(
        &self,
        prefix: &str,
        project: Option<&str>,
    ) -> Result<Vec<ShortId>, Error> {
        let rows = sqlx::query(PREFIX)
            .bind(prefix)
            // `{` is past every letter of the alphabet.
            .bind(format!("{prefix}{{"))
            .bind(project)
            .fetch_all(&self.read)
            .await?;
        rows.iter().map(|row| parse("a batch id", row.try_get(0)?)).collect()
    }

    /// The newest of that name.
    pub(crate) async fn batch_by_name(
        &self,
        name: &str,
        project: Option<&str>,
    ) -> Result<Option<ShortId>, Error> {
        let row = sqlx::query(NAMED).bind(name).bind(project).fetch_optional(&self.read).await?;
        row.map(|row| parse("a batch id", row.try_get(0)?)).transpose()
    }

    /// Its jobs in any of these states; none: in any.
    pub(crate) async fn jobs_of_batch(
        &self,
        batch: &ShortId,
        states: &[JobState],
    ) -> Result<Vec<JobId>, Error> {
        const JOBS: &str = concat!(
            "SELECT id FROM jobs WHERE batch = $1 AND ($2 = '[]' OR state IN (SELECT ",
            item!("v.value"),
            " FROM ",
            rows!("$2"),
            " AS v)) ORDER BY id"
        );
        let rows = sqlx::query(JOBS)
            .bind(batch.as_str())
            .bind(pack_list(states.iter().map(|state| state.as_str())))
            .fetch_all(&self.read)
            .await?;
        rows.iter().map(|row| job_id(row.try_get(0)?)).collect()
    }

    /// Whether this request has made a batch.
    pub(crate) async fn batch_requested(&self, project: &str, request: &str) -> Result<bool, Error> {
        let row = sqlx::query("SELECT 1 FROM batch_requests WHERE project = $1 AND request_id = $2")
            .bind(project)
            .bind(request)
            .fetch_optional(&self.read)
            .await?;
        Ok(row.is_some())
    }

    /// Jobs of the batch that were let go and have not ended.
    pub(crate) async fn going_in_batch(&self, batch: &ShortId) -> Result<u32, Error> {
        let row = sqlx::query(GOING).bind(batch.as_str()).fetch_one(&self.read).await?;
        Ok(small(row.try_get(0)?))
    }
}
