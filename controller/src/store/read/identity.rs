//! Tokens, projects and the audit log.

use crate::{
    identity::Project,
    jobs::AuditFilter,
    store::{
        AuditRow, Error, Store, TokenRow,
        rows::{identity::read_project, micros},
    },
};

impl Store {
    /// With those that were revoked.
    pub(crate) async fn tokens(&self) -> Result<Vec<TokenRow>, Error> {
        let rows = sqlx::query("SELECT * FROM tokens ORDER BY name, id").fetch_all(&self.read).await?;
        rows.iter().map(TokenRow::read).collect()
    }

    pub(crate) async fn projects(&self) -> Result<Vec<Project>, Error> {
        let rows = sqlx::query("SELECT * FROM projects ORDER BY name").fetch_all(&self.read).await?;
        rows.iter().map(read_project).collect()
    }

    /// Newest first, before the line of this id.
    pub(crate) async fn audit(
        &self,
        filter: &AuditFilter,
        before: Option<[u8; 16]>,
        limit: u32,
    ) -> Result<Vec<AuditRow>, Error> {
        let before = before.unwrap_or([0xff; 16]);
        let rows = sqlx::query(
            "SELECT * FROM audit WHERE ($1 IS NULL OR actor = $1) AND ($2 IS NULL OR at >= $2) \
             AND ($3 = 0 OR result <> 'ok') AND id < $4 ORDER BY id DESC LIMIT $5",
        )
        .bind(&filter.actor)
        .bind(micros(filter.since))
        .bind(i64::from(filter.refused))
        .bind(&before[..])
        .bind(i64::from(limit))
        .fetch_all(&self.read)
        .await?;
        rows.iter().map(AuditRow::read).collect()
    }
}
