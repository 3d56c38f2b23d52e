//! Actions, their versions, and how often they are used.

use super::Tx;
use crate::{
    actions::{ActionView, Archived},
    store::{
        ActionRequestRow, Error,
        dialect::{bytes, rows},
        read,
        rows::to_json,
    },
};
use longshore_common::{action::Action, clock::Timestamp};

/// Over the jobs that are inserted. Times only go on: the later one is the last.
const MADE: &str = concat!(
    "INSERT INTO action_usage (project, name, version, jobs, succeeded, failed, cancelled, used_at) \
     SELECT v.value->>'project', v.value->>'action', CAST(v.value->>'action_version' AS BIGINT), COUNT(*), 0, 0, 0, \
     MAX(CAST(v.value->>'created_at' AS BIGINT)) FROM ",
    rows!("$1"),
    " AS v WHERE v.value->>'action' IS NOT NULL GROUP BY 1, 2, 3 ON CONFLICT (project, name, version) DO UPDATE SET \
     jobs = action_usage.jobs + excluded.jobs, used_at = excluded.used_at",
);

/// Over the jobs that are updated, before they are: those that end now, each once.
const ENDED: &str = concat!(
    "INSERT INTO action_usage (project, name, version, jobs, succeeded, failed, cancelled, used_at) \
     SELECT j.project, j.action, j.action_version, 0, \
     SUM(CASE WHEN v.value->>'state' = 'succeeded' THEN 1 ELSE 0 END), \
     SUM(CASE WHEN v.value->>'state' IN ('failed', 'timed_out') THEN 1 ELSE 0 END), \
     SUM(CASE WHEN v.value->>'state' = 'cancelled' THEN 1 ELSE 0 END), MAX(j.created_at) FROM ",
    rows!("$1"),
    " AS v JOIN jobs AS j ON j.id = ",
    bytes!("v.value->>'id'"),
    " WHERE j.action IS NOT NULL AND j.finished_at IS NULL AND v.value->>'finished_at' IS NOT NULL GROUP BY 1, 2, 3 \
     ON CONFLICT (project, name, version) DO UPDATE SET succeeded = action_usage.succeeded + excluded.succeeded, \
     failed = action_usage.failed + excluded.failed, cancelled = action_usage.cancelled + excluded.cancelled",
);

/// The next version of an action.
#[derive(Debug)]
pub(crate) struct NewVersion<'a> {
    pub(crate) project: &'a str,
    pub(crate) action: &'a Action,
    pub(crate) version: u32,
    pub(crate) created_by: &'a str,
    pub(crate) restored_from: Option<u32>,
}

impl Tx {
    pub(crate) async fn action(
        &mut self,
        project: &str,
        name: &str,
        version: u32,
    ) -> Result<Option<ActionView>, Error> {
        read::action(self.connection(), project, name, version).await
    }

    /// It is the latest from then on.
    pub(crate) async fn put_action_version(
        &mut self,
        new: &NewVersion<'_>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let NewVersion { project, action, version, created_by, restored_from } = new;
        sqlx::query(
            "INSERT INTO action_versions (project, name, version, spec, created_at, created_by, restored_from) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(project)
        .bind(&action.name)
        .bind(i64::from(*version))
        .bind(to_json(*action))
        .bind(now.as_micros())
        .bind(created_by)
        .bind(restored_from.map(i64::from))
        .execute(self.connection())
        .await?;
        sqlx::query(
            "INSERT INTO actions (project, name, latest, labels) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (project, name) DO UPDATE SET latest = excluded.latest, labels = excluded.labels",
        )
        .bind(project)
        .bind(&action.name)
        .bind(i64::from(*version))
        .bind(to_json(&action.job.labels))
        .execute(self.connection())
        .await?;
        Ok(())
    }

    pub(crate) async fn archive_action(
        &mut self,
        project: &str,
        name: &str,
        archived: Option<&Archived>,
    ) -> Result<(), Error> {
        sqlx::query("UPDATE actions SET archived_at = $3, archived_by = $4 WHERE project = $1 AND name = $2")
            .bind(project)
            .bind(name)
            .bind(archived.map(|archived| archived.at.as_micros()))
            .bind(archived.map(|archived| &archived.by))
            .execute(self.connection())
            .await?;
        Ok(())
    }

    pub(crate) async fn action_request(
        &mut self,
        project: &str,
        request: &str,
    ) -> Result<Option<ActionRequestRow>, Error> {
        let row = sqlx::query("SELECT * FROM action_requests WHERE project = $1 AND request_id = $2")
            .bind(project)
            .bind(request)
            .fetch_optional(self.connection())
            .await?;
        row.as_ref().map(ActionRequestRow::read).transpose()
    }

    pub(crate) async fn put_action_request(
        &mut self,
        row: &ActionRequestRow,
        now: Timestamp,
    ) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO action_requests (project, request_id, digest, name, version, changed, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(&row.project)
        .bind(&row.request_id)
        .bind(&row.digest)
        .bind(&row.name)
        .bind(i64::from(row.version))
        .bind(i64::from(row.changed))
        .bind(now.as_micros())
        .execute(self.connection())
        .await?;
        Ok(())
    }

    pub(super) async fn count_made(&mut self, jobs: String) -> Result<(), Error> {
        self.run(MADE, jobs).await.map(drop)
    }

    pub(super) async fn count_ended(&mut self, jobs: String) -> Result<(), Error> {
        self.run(ENDED, jobs).await.map(drop)
    }
}
