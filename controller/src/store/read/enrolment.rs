//! Who may be an agent.

use crate::store::{
    Error, Store,
    rows::{CredentialRow, JoinTokenRow},
};

/// Of lists for people.
const MOST: i64 = 1_000;

impl Store {
    /// All that are kept, revoked ones too.
    pub(crate) async fn credentials(&self) -> Result<Vec<CredentialRow>, Error> {
        let rows = sqlx::query("SELECT * FROM agent_credentials").fetch_all(&self.read).await?;
        rows.iter().map(CredentialRow::read).collect()
    }

    /// Newest first.
    pub(crate) async fn join_tokens(&self) -> Result<Vec<JoinTokenRow>, Error> {
        let rows = sqlx::query("SELECT * FROM join_tokens ORDER BY created_at DESC, id LIMIT $1")
            .bind(MOST)
            .fetch_all(&self.read)
            .await?;
        rows.iter().map(JoinTokenRow::read).collect()
    }
}
