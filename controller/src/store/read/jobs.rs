//! Jobs, attempts and agents as people ask for them.

use crate::{
    jobs::JobFilter,
    store::{
        AgentRow, AttemptRow, Error, Store, ViewRow,
        dialect::{bytes, has_all, item, rows},
        pack_list,
        rows::{jobs::job_id, micros, parse, signed, to_json},
        write::PROJECTS_IN,
    },
};
use longshore_common::{
    clock::Timestamp,
    ids::{JobId, ShortId},
    queue::Lane,
};
use sqlx::{Row as _, SqliteExecutor};
use std::collections::BTreeMap;

macro_rules! view {
    () => {
        "SELECT j.*, s.spec, a.name AS agent_name FROM jobs AS j JOIN job_specs AS s ON s.job_id = j.id \
         LEFT JOIN agents AS a ON a.id = j.agent_id "
    };
}

macro_rules! matching {
    () => {
        concat!(
            "($1 IS NULL OR j.project = $1) AND ($2 IS NULL OR j.created_at >= $2) AND ($3 = '[]' OR j.state IN \
             (SELECT ",
            item!("v.value"),
            " FROM ",
            rows!("$3"),
            " AS v)) AND ($4 = '{}' OR ",
            has_all!("s.labels", "$4"),
            ") AND ($5 IS NULL OR j.name = $5) AND ($6 IS NULL OR j.action = $6) \
             AND ($7 IS NULL OR j.action_version = $7) AND ($11 IS NULL OR j.batch = $11) "
        )
    };
}

const LIST: &str = concat!(view!(), "WHERE ", matching!(), "AND j.id < $8 ORDER BY j.id DESC LIMIT $9");
pub(in crate::store) const LIST_NAMED: &str =
    concat!(view!(), "WHERE j.name = $5 AND ", matching!(), "AND j.id < $8 ORDER BY j.id DESC LIMIT $9");
pub(in crate::store) const LIST_UNFINISHED: &str = concat!(
    view!(),
    "WHERE j.finished_at IS NULL AND ",
    matching!(),
    "AND j.id < $8 ORDER BY j.id DESC LIMIT $9"
);
pub(in crate::store) const LIST_OF_ACTION: &str =
    concat!(view!(), "WHERE j.action = $6 AND ", matching!(), "AND j.id < $8 ORDER BY j.id DESC LIMIT $9");
pub(in crate::store) const LIST_OF_BATCH: &str = concat!(
    view!(),
    "WHERE j.batch = $11 AND ($10 = 0 OR j.finished_at IS NULL) AND ",
    matching!(),
    "AND j.id < $8 ORDER BY j.id DESC LIMIT $9"
);
const CHANGED: &str = concat!(
    view!(),
    "WHERE ",
    matching!(),
    "AND ($8 = 0 OR j.finished_at IS NULL) AND j.revision > $9 ORDER BY j.revision LIMIT $10"
);

pub(in crate::store) const EXPIRED: &str = "SELECT id FROM jobs AS o WHERE expires_at <= $1 AND NOT EXISTS \
     (SELECT 1 FROM job_sources AS s JOIN jobs AS j ON j.id = s.job_id \
     WHERE s.kind = 'job' AND s.name = o.short_id AND j.finished_at IS NULL) LIMIT $2";

const MANY: &str = concat!(
    "SELECT j.*, s.spec, a.name AS agent_name FROM ",
    rows!("$1"),
    " AS v JOIN jobs AS j ON j.id = ",
    bytes!("v.value"),
    " JOIN job_specs AS s ON s.job_id = j.id LEFT JOIN agents AS a ON a.id = j.agent_id",
);

const ATTEMPTS: &str = "SELECT t.*, a.name AS agent_name FROM attempts AS t LEFT JOIN agents AS a ON a.id = t.agent_id \
     WHERE t.job_id = $1 ORDER BY t.number";

/// Where a page begins and how long it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListBounds {
    /// Only ids before this one.
    pub(crate) before: Option<JobId>,
    pub(crate) limit: u32,
}

async fn views(from: impl SqliteExecutor<'_>, ids: &[JobId]) -> Result<Vec<ViewRow>, Error> {
    let list = pack_list(ids.iter().map(|id| hex::encode(id.as_bytes())));
    let rows = sqlx::query(MANY).bind(list).fetch_all(from).await?;
    rows.iter().map(ViewRow::read).collect()
}

async fn attempts(from: impl SqliteExecutor<'_>, job: JobId) -> Result<Vec<AttemptRow>, Error> {
    let rows = sqlx::query(ATTEMPTS).bind(&job.as_bytes()[..]).fetch_all(from).await?;
    rows.iter().map(AttemptRow::read).collect()
}

/// Where a job stands in a lane, or would.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) lane: &'a Lane,
    pub(crate) rank: i64,
    pub(crate) queued_at: Timestamp,
    pub(crate) id: JobId,
}

/// A project's queued jobs beside a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ahead {
    /// More urgent.
    pub(crate) urgent: u32,
    /// As urgent, and queued before.
    pub(crate) older: u32,
    /// As urgent.
    pub(crate) equal: u32,
}

const AHEAD: &str = "SELECT \
     (SELECT COUNT(*) FROM (SELECT 1 FROM jobs WHERE state = 'queued' AND lane = $1 AND project = $2 \
     AND rank < $3 LIMIT $6) AS u), \
     (SELECT COUNT(*) FROM (SELECT 1 FROM jobs WHERE state = 'queued' AND lane = $1 AND project = $2 \
     AND rank = $3 AND (queued_at, id) < ($4, $5) LIMIT $6) AS o), \
     (SELECT COUNT(*) FROM (SELECT 1 FROM jobs WHERE state = 'queued' AND lane = $1 AND project = $2 \
     AND rank = $3 LIMIT $6) AS e)";

impl Store {
    pub(crate) async fn views(&self, ids: &[JobId]) -> Result<Vec<ViewRow>, Error> {
        views(&self.read, ids).await
    }

    /// A job and its attempts as they were at one instant.
    pub(crate) async fn whole(&self, job: JobId) -> Result<Option<(ViewRow, Vec<AttemptRow>)>, Error> {
        let mut snapshot = self.read.begin().await?;
        let Some(view) = views(&mut *snapshot, &[job]).await?.pop() else { return Ok(None) };
        let attempts = attempts(&mut *snapshot, job).await?;
        snapshot.commit().await?;
        Ok(Some((view, attempts)))
    }

    /// Newest first.
    pub(crate) async fn list(&self, filter: &JobFilter, bounds: ListBounds) -> Result<Vec<ViewRow>, Error> {
        let sql = match (filter.unfinished, &filter.name) {
            _ if filter.batch.is_some() => LIST_OF_BATCH,
            (_, Some(_)) if !filter.unfinished => LIST_NAMED,
            (false, None) if filter.action.is_some() => LIST_OF_ACTION,
            (true, _) => LIST_UNFINISHED,
            (false, _) => LIST,
        };
        let before = bounds.before.map_or([0xff; 16], |id| *id.as_bytes());
        let rows = sqlx::query(sql)
            .bind(&filter.project)
            .bind(micros(filter.since))
            .bind(pack_list(filter.states.iter().map(|state| state.as_str())))
            .bind(to_json(&filter.labels))
            .bind(&filter.name)
            .bind(&filter.action)
            .bind(filter.action_version.map(i64::from))
            .bind(&before[..])
            .bind(i64::from(bounds.limit))
            .bind(i64::from(filter.unfinished))
            .bind(filter.batch.as_ref().map(ShortId::as_str))
            .fetch_all(&self.read)
            .await?;
        rows.iter().map(ViewRow::read).collect()
    }

    /// In order of revision.
    pub(crate) async fn changed_since(
        &self,
        filter: &JobFilter,
        revision: u64,
        limit: u32,
    ) -> Result<Vec<ViewRow>, Error> {
        let rows = sqlx::query(CHANGED)
            .bind(&filter.project)
            .bind(micros(filter.since))
            .bind(pack_list(filter.states.iter().map(|state| state.as_str())))
            .bind(to_json(&filter.labels))
            .bind(&filter.name)
            .bind(&filter.action)
            .bind(filter.action_version.map(i64::from))
            .bind(i64::from(filter.unfinished))
            .bind(signed(revision))
            .bind(i64::from(limit))
            .bind(filter.batch.as_ref().map(ShortId::as_str))
            .fetch_all(&self.read)
            .await?;
        rows.iter().map(ViewRow::read).collect()
    }

    /// Jobs whose short id begins with `prefix`, of one project or of all, at most `limit`.
    pub(crate) async fn by_short_id(
        &self,
        prefix: &str,
        project: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(JobId, ShortId)>, Error> {
        let rows = sqlx::query(
            "SELECT id, short_id FROM jobs WHERE short_id >= $1 AND short_id < $2 \
             AND ($3 IS NULL OR project = $3) LIMIT $4",
        )
        .bind(prefix)
        // `{` is past every letter of the alphabet.
        .bind(format!("{prefix}{{"))
        .bind(project)
        .bind(i64::from(limit))
        .fetch_all(&self.read)
        .await?;
        rows.iter().map(|row| Ok((job_id(row.try_get(0)?)?, parse("a short id", row.try_get(1)?)?))).collect()
    }

    /// The newest job of that name, of one project or of all.
    pub(crate) async fn by_name(&self, name: &str, project: Option<&str>) -> Result<Option<JobId>, Error> {
        let row = sqlx::query(
            "SELECT id FROM jobs WHERE name = $1 AND ($2 IS NULL OR project = $2) ORDER BY id DESC LIMIT 1",
        )
        .bind(name)
        .bind(project)
        .fetch_optional(&self.read)
        .await?;
        row.map(|row| job_id(row.try_get(0)?)).transpose()
    }

    /// The job that a request made.
    pub(crate) async fn requested(&self, project: &str, request: &str) -> Result<Option<JobId>, Error> {
        let row = sqlx::query("SELECT job_id FROM requests WHERE project = $1 AND request_id = $2")
            .bind(project)
            .bind(request)
            .fetch_optional(&self.read)
            .await?;
        row.map(|row| job_id(row.try_get(0)?)).transpose()
    }

    pub(crate) async fn attempts(&self, job: JobId) -> Result<Vec<AttemptRow>, Error> {
        attempts(&self.read, job).await
    }

    /// Whether this attempt's end was reported, if there was such an attempt.
    pub(crate) async fn attempt_reported(
        &self,
        attempt: longshore_common::ids::AttemptRef,
    ) -> Result<Option<bool>, Error> {
        let row =
            sqlx::query("SELECT reported FROM attempts WHERE job_id = $1 AND number = $2 AND epoch = $3")
                .bind(&attempt.job.as_bytes()[..])
                .bind(i64::from(attempt.number))
                .bind(signed(attempt.epoch.0))
                .fetch_optional(&self.read)
                .await?;
        Ok(row.map(|row| row.try_get::<i64, _>(0)).transpose()?.map(|reported| reported != 0))
    }

    pub(crate) async fn agents(&self) -> Result<Vec<AgentRow>, Error> {
        let rows = sqlx::query("SELECT identity, inventory, seen_at FROM agents WHERE removed_at IS NULL")
            .fetch_all(&self.read)
            .await?;
        rows.iter().map(AgentRow::read).collect()
    }

    /// Jobs under an attempt, with it, as they were when the controller last ran.
    pub(crate) async fn live(&self) -> Result<Vec<(ViewRow, AttemptRow)>, Error> {
        let rows = sqlx::query(
            "SELECT j.id FROM jobs AS j WHERE j.finished_at IS NULL AND j.attempts > 0 AND j.reported = 0",
        )
        .fetch_all(&self.read)
        .await?;
        let ids = rows.iter().map(|row| job_id(row.try_get(0)?)).collect::<Result<Vec<_>, Error>>()?;
        let mut live = Vec::with_capacity(ids.len());
        for view in self.views(&ids).await? {
            let attempts = self.attempts(view.row.job.id).await?;
            if let Some(attempt) = attempts.into_iter().next_back() {
                live.push((view, attempt));
            }
        }
        Ok(live)
    }

    /// How many queued jobs of each project in the lane come before this place or beside it, each counted up to
    /// `limit`.
    pub(crate) async fn places(
        &self,
        place: &Place<'_>,
        limit: u32,
    ) -> Result<BTreeMap<String, Ahead>, Error> {
        let projects = sqlx::query(PROJECTS_IN).bind(place.lane.as_str()).fetch_all(&self.read).await?;
        let mut places = BTreeMap::new();
        for row in &projects {
            let project: String = row.try_get(0)?;
            let row = sqlx::query(AHEAD)
                .bind(place.lane.as_str())
                .bind(&project)
                .bind(place.rank)
                .bind(place.queued_at.as_micros())
                .bind(&place.id.as_bytes()[..])
                .bind(i64::from(limit))
                .fetch_one(&self.read)
                .await?;
            let count = |column: usize| row.try_get(column).map(crate::store::rows::small);
            places.insert(project, Ahead { urgent: count(0)?, older: count(1)?, equal: count(2)? });
        }
        Ok(places)
    }

    /// Ended jobs whose time is over and whose outputs no unfinished job needs.
    pub(crate) async fn expired_jobs(&self, now: Timestamp, limit: u32) -> Result<Vec<JobId>, Error> {
        let rows =
            sqlx::query(EXPIRED).bind(now.as_micros()).bind(i64::from(limit)).fetch_all(&self.read).await?;
        rows.iter().map(|row| job_id(row.try_get(0)?)).collect()
    }
}
