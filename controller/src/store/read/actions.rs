//! Actions and their versions.

use crate::{
    actions::{ActionView, ListFilter},
    store::{Error, Store, dialect::has_all, rows::to_json},
};
use futures::{Stream, TryStreamExt as _};
use sqlx::{Row as _, SqliteExecutor, sqlite::SqliteRow};

macro_rules! view {
    ($usage:literal) => {
        concat!(
            "SELECT a.project, a.latest, a.archived_at, a.archived_by, v.version, v.spec, v.created_at, v.created_by, \
             v.restored_from, u.jobs, u.succeeded, u.failed, u.cancelled, u.used_at FROM actions AS a \
             JOIN action_versions AS v ON v.project = a.project AND v.name = a.name ",
            $usage
        )
    };
}

macro_rules! of_version {
    () => {
        view!(
            "LEFT JOIN action_usage AS u ON u.project = v.project AND u.name = v.name AND u.version = v.version \
             WHERE a.project = $1 AND a.name = $2 "
        )
    };
}

/// Version 0 is the latest.
const ONE: &str = concat!(of_version!(), "AND v.version = CASE WHEN $3 = 0 THEN a.latest ELSE $3 END");
const VERSIONS: &str = concat!(of_version!(), "AND v.version < $3 ORDER BY v.version DESC LIMIT $4");
const LIST: &str = concat!(
    view!(
        "LEFT JOIN (SELECT name, SUM(jobs) AS jobs, SUM(succeeded) AS succeeded, SUM(failed) AS failed, \
         SUM(cancelled) AS cancelled, MAX(used_at) AS used_at FROM action_usage WHERE project = $1 GROUP BY name) \
         AS u ON u.name = a.name WHERE a.project = $1 AND a.name > $2 AND v.version = a.latest \
         AND ($3 <> 0 OR a.archived_at IS NULL) AND "
    ),
    has_all!("a.labels", "$4"),
    " ORDER BY a.name LIMIT $5"
);

/// One version, in or outside a transaction.
pub(in crate::store) async fn one(
    from: impl SqliteExecutor<'_>,
    project: &str,
    name: &str,
    version: u32,
) -> Result<Option<ActionView>, Error> {
    let row = sqlx::query(ONE).bind(project).bind(name).bind(i64::from(version)).fetch_optional(from).await?;
    row.as_ref().map(ActionView::read).transpose()
}

/// The first ones, one at least.
async fn page(
    mut rows: impl Stream<Item = Result<SqliteRow, sqlx::Error>> + Unpin,
    (most, mut room): (u32, usize),
) -> Result<(Vec<ActionView>, bool), Error> {
    let mut page = Vec::new();
    while let Some(row) = rows.try_next().await? {
        let size = row.try_get::<&str, _>("spec")?.len();
        if page.len() == most as usize || (size > room && !page.is_empty()) {
            return Ok((page, true));
        }
        room = room.saturating_sub(size);
        page.push(ActionView::read(&row)?);
    }
    Ok((page, false))
}

impl Store {
    /// Version 0 is the latest.
    pub(crate) async fn action(
        &self,
        project: &str,
        name: &str,
        version: u32,
    ) -> Result<Option<ActionView>, Error> {
        one(&self.read, project, name, version).await
    }

    /// Newest first, those before `before`: so many, or so many bytes, and whether there are more.
    pub(crate) async fn action_versions(
        &self,
        project: &str,
        name: &str,
        before: u32,
        room: (u32, usize),
    ) -> Result<(Vec<ActionView>, bool), Error> {
        let rows = sqlx::query(VERSIONS)
            .bind(project)
            .bind(name)
            .bind(i64::from(before))
            .bind(i64::from(room.0) + 1)
            .fetch(&self.read);
        page(rows, room).await
    }

    /// The latest version of each, by name, those after `after`: so many, or so many bytes, and whether there are more.
    pub(crate) async fn actions(
        &self,
        filter: &ListFilter,
        after: &str,
        room: (u32, usize),
    ) -> Result<(Vec<ActionView>, bool), Error> {
        let rows = sqlx::query(LIST)
            .bind(&filter.project)
            .bind(after)
            .bind(i64::from(filter.archived))
            .bind(to_json(&filter.labels))
            .bind(i64::from(room.0) + 1)
            .fetch(&self.read);
        page(rows, room).await
    }

    /// For "did you mean": archived ones too.
    pub(crate) async fn action_names(&self, project: &str, limit: u32) -> Result<Vec<String>, Error> {
        let rows = sqlx::query("SELECT name FROM actions WHERE project = $1 ORDER BY name LIMIT $2")
            .bind(project)
            .bind(i64::from(limit))
            .fetch_all(&self.read)
            .await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }
}
