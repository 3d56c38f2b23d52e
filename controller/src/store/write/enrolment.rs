//! Join tokens and agents' credentials. A few rows a day: one at a time.

use super::Tx;
use crate::store::{
    Error,
    rows::{CredentialRow, JoinTokenRow},
};
use longshore_common::{clock::Timestamp, credential::JoinTokenId, ids::AgentId};
use sqlx::Row as _;

impl Tx {
    pub(crate) async fn put_join_token(&mut self, token: &JoinTokenRow) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO join_tokens (id, hash, created_at, created_by, expires_at, uses, used) \
             VALUES ($1, $2, $3, $4, $5, $6, 0)",
        )
        .bind(&token.id.as_bytes()[..])
        .bind(&token.hash)
        .bind(token.created_at.as_micros())
        .bind(&token.created_by)
        .bind(token.expires_at.as_micros())
        .bind(i64::from(token.uses))
        .execute(self.connection())
        .await?;
        Ok(())
    }

    pub(crate) async fn join_token(&mut self, id: JoinTokenId) -> Result<Option<JoinTokenRow>, Error> {
        let row = sqlx::query("SELECT * FROM join_tokens WHERE id = $1")
            .bind(&id.as_bytes()[..])
            .fetch_optional(self.connection())
            .await?;
        row.as_ref().map(JoinTokenRow::read).transpose()
    }

    /// Whether there is one.
    pub(crate) async fn revoke_join_token(&mut self, id: JoinTokenId, now: Timestamp) -> Result<bool, Error> {
        let done = sqlx::query("UPDATE join_tokens SET revoked_at = COALESCE(revoked_at, $2) WHERE id = $1")
            .bind(&id.as_bytes()[..])
            .bind(now.as_micros())
            .execute(self.connection())
            .await?;
        Ok(done.rows_affected() > 0)
    }

    /// The key with which this agent used this token.
    pub(crate) async fn join_use(
        &mut self,
        token: JoinTokenId,
        agent: AgentId,
    ) -> Result<Option<Vec<u8>>, Error> {
        let row = sqlx::query("SELECT binding FROM join_uses WHERE token_id = $1 AND agent_id = $2")
            .bind(&token.as_bytes()[..])
            .bind(&agent.as_bytes()[..])
            .fetch_optional(self.connection())
            .await?;
        Ok(row.map(|row| row.try_get("binding")).transpose()?)
    }

    /// One use less.
    pub(crate) async fn use_join_token(
        &mut self,
        token: JoinTokenId,
        agent: AgentId,
        binding: &[u8],
        now: Timestamp,
    ) -> Result<(), Error> {
        sqlx::query("UPDATE join_tokens SET used = used + 1 WHERE id = $1")
            .bind(&token.as_bytes()[..])
            .execute(self.connection())
            .await?;
        sqlx::query(
            "INSERT INTO join_uses (token_id, agent_id, binding, used_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (token_id, agent_id) DO UPDATE SET binding = excluded.binding, used_at = excluded.used_at",
        )
        .bind(&token.as_bytes()[..])
        .bind(&agent.as_bytes()[..])
        .bind(binding)
        .bind(now.as_micros())
        .execute(self.connection())
        .await?;
        Ok(())
    }

    pub(crate) async fn put_credential(&mut self, credential: &CredentialRow) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO agent_credentials (serial, agent_id, hash, issued_at, not_after) \
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(&credential.serial)
        .bind(&credential.agent.as_bytes()[..])
        .bind(&credential.hash)
        .bind(credential.issued_at.as_micros())
        .bind(credential.not_after.as_micros())
        .execute(self.connection())
        .await?;
        Ok(())
    }

    pub(crate) async fn credentials_of(&mut self, agent: AgentId) -> Result<Vec<CredentialRow>, Error> {
        let rows = sqlx::query("SELECT * FROM agent_credentials WHERE agent_id = $1")
            .bind(&agent.as_bytes()[..])
            .fetch_all(self.connection())
            .await?;
        rows.iter().map(CredentialRow::read).collect()
    }

    /// All of the agent's but one.
    pub(crate) async fn drop_other_credentials(&mut self, agent: AgentId, kept: &[u8]) -> Result<(), Error> {
        sqlx::query(
            "DELETE FROM agent_credentials WHERE agent_id = $1 AND serial <> $2 AND revoked_at IS NULL",
        )
        .bind(&agent.as_bytes()[..])
        .bind(kept)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// The agent's, which is `fresh` if it has none.
    pub(crate) async fn broker_salt(&mut self, agent: AgentId, fresh: [u8; 16]) -> Result<Vec<u8>, Error> {
        sqlx::query(
            "INSERT INTO broker_salts (agent_id, salt) VALUES ($1, $2) ON CONFLICT (agent_id) DO NOTHING",
        )
        .bind(&agent.as_bytes()[..])
        .bind(&fresh[..])
        .execute(self.connection())
        .await?;
        let row = sqlx::query("SELECT salt FROM broker_salts WHERE agent_id = $1")
            .bind(&agent.as_bytes()[..])
            .fetch_one(self.connection())
            .await?;
        Ok(row.try_get("salt")?)
    }

    /// The agent's broker user is another from now on, or none.
    pub(crate) async fn forget_broker_salt(&mut self, agent: AgentId) -> Result<(), Error> {
        sqlx::query("DELETE FROM broker_salts WHERE agent_id = $1")
            .bind(&agent.as_bytes()[..])
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// The agent is none any more.
    pub(crate) async fn remove_agent(&mut self, agent: AgentId, now: Timestamp) -> Result<(), Error> {
        for sql in [
            // No repeat of its join is taken for the answer that was lost.
            "UPDATE join_uses SET binding = '', used_at = $2 WHERE agent_id = $1",
            "UPDATE agent_credentials SET revoked_at = COALESCE(revoked_at, $2) WHERE agent_id = $1",
            "UPDATE agents SET removed_at = $2 WHERE id = $1",
        ] {
            sqlx::query(sql)
                .bind(&agent.as_bytes()[..])
                .bind(now.as_micros())
                .execute(self.connection())
                .await?;
        }
        self.forget_broker_salt(agent).await
    }

    /// What was over before `before` interests nobody.
    pub(crate) async fn forget_enrolment(&mut self, before: Timestamp) -> Result<(), Error> {
        for sql in [
            "DELETE FROM agent_credentials WHERE not_after < $1",
            "DELETE FROM join_uses WHERE token_id IN (SELECT id FROM join_tokens WHERE expires_at < $1)",
            "DELETE FROM join_tokens WHERE expires_at < $1",
        ] {
            sqlx::query(sql).bind(before.as_micros()).execute(self.connection()).await?;
        }
        Ok(())
    }
}
