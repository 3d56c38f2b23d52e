//! Who may be an agent.

use crate::store::{
    Error, Store,
    rows::{CredentialRow, JoinTokenRow},
};
use longshore_common::{credential::JoinTokenId, ids::AgentId};
use sqlx::{Row as _, sqlite::SqliteRow};
use std::collections::HashMap;

/// Of lists for people.
const MOST: i64 = 1_000;

impl Store {
    /// All that are kept, revoked ones too.
    pub(crate) async fn credentials(&self) -> Result<Vec<CredentialRow>, Error> {
        let rows = sqlx::query("SELECT * FROM agent_credentials").fetch_all(&self.read).await?;
        rows.iter().map(CredentialRow::read).collect()
    }

    /// What the passwords of agents' broker users are derived from.
    pub(crate) async fn broker_salts(&self) -> Result<HashMap<AgentId, Vec<u8>>, Error> {
        let rows = sqlx::query("SELECT agent_id, salt FROM broker_salts").fetch_all(&self.read).await?;
        let read = |row: &SqliteRow| {
            let agent: Vec<u8> = row.try_get("agent_id")?;
            let agent = AgentId::from_slice(&agent).map_err(|error| Error::corrupt("an agent id", error))?;
            Ok((agent, row.try_get("salt")?))
        };
        rows.iter().map(read).collect()
    }

    pub(crate) async fn join_token(&self, id: JoinTokenId) -> Result<Option<JoinTokenRow>, Error> {
        let row = sqlx::query("SELECT * FROM join_tokens WHERE id = $1")
            .bind(&id.as_bytes()[..])
            .fetch_optional(&self.read)
            .await?;
        row.as_ref().map(JoinTokenRow::read).transpose()
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
