//! Tokens, projects and the audit log.

use super::Tx;
use crate::{
    identity::Project,
    store::{
        AuditRow, Error, TokenRow,
        dialect::{bytes, rows},
        pack_list,
        rows::{identity, to_json},
    },
};
use longshore_common::clock::Timestamp;

const PUT_TOKEN: &str = concat!(
    "INSERT INTO tokens (id, name, digest, role, project, created_at, created_by, expires_at) \
     SELECT v.value->>'id', v.value->>'name', ",
    bytes!("v.value->>'digest'"),
    ", v.value->>'role', v.value->>'project', CAST(v.value->>'created_at' AS BIGINT), v.value->>'created_by', \
     CAST(v.value->>'expires_at' AS BIGINT) FROM ",
    rows!("$1"),
    " AS v",
);

const USED: &str = concat!(
    "UPDATE tokens SET used_at = CAST(v.value->>1 AS BIGINT) FROM ",
    rows!("$1"),
    " AS v WHERE tokens.id = v.value->>0",
);

const AUDIT: &str = concat!(
    "INSERT INTO audit (id, at, actor, address, action, project, targets, target_count, result, message) SELECT ",
    bytes!("v.value->>'id'"),
    ", CAST(v.value->>'at' AS BIGINT), v.value->>'actor', v.value->>'address', v.value->>'action', \
     v.value->>'project', v.value->>'targets', CAST(v.value->>'target_count' AS BIGINT), v.value->>'result', \
     v.value->>'message' FROM ",
    rows!("$1"),
    " AS v",
);

const OPEN_CALL: &str = concat!(
    "INSERT INTO open_calls (id, at, actor, address, action, project) SELECT ",
    bytes!("v.value->>'id'"),
    ", CAST(v.value->>'at' AS BIGINT), v.value->>'actor', v.value->>'address', v.value->>'action', \
     v.value->>'project' FROM ",
    rows!("$1"),
    " AS v",
);

const CLOSE_CALLS: &str = concat!(
    "DELETE FROM open_calls WHERE id IN (SELECT ",
    bytes!("v.value->>'id'"),
    " FROM ",
    rows!("$1"),
    " AS v)",
);

impl Tx {
    pub(crate) async fn put_token(&mut self, token: &TokenRow) -> Result<(), Error> {
        self.run(PUT_TOKEN, identity::pack_token(token)).await?;
        Ok(())
    }

    /// Those that are revoked already keep their time.
    pub(crate) async fn revoke_token(&mut self, id: &str, now: Timestamp) -> Result<(), Error> {
        sqlx::query("UPDATE tokens SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL")
            .bind(id)
            .bind(now.as_micros())
            .execute(self.connection())
            .await?;
        Ok(())
    }

    pub(crate) async fn tokens_used(&mut self, used: &[(String, Timestamp)]) -> Result<(), Error> {
        self.run(USED, pack_list(used.iter().map(|(id, at)| (id, at.as_micros())))).await?;
        Ok(())
    }

    /// Makes it, or changes its settings.
    pub(crate) async fn put_project(&mut self, project: &Project) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO projects (name, settings, created_at) VALUES ($1, $2, $3) \
             ON CONFLICT (name) DO UPDATE SET settings = excluded.settings",
        )
        .bind(&project.name)
        .bind(to_json(&project.settings))
        .bind(project.created_at.as_micros())
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Ends the calls that were open by the lines' ids.
    pub(crate) async fn audit(&mut self, lines: &[AuditRow]) -> Result<(), Error> {
        let lines = identity::pack_audit(lines);
        self.run(CLOSE_CALLS, lines.clone()).await?;
        self.run(AUDIT, lines).await?;
        Ok(())
    }

    /// What will be a line in the audit log, whatever becomes of this process.
    pub(crate) async fn open_call(&mut self, line: &AuditRow) -> Result<(), Error> {
        self.run(OPEN_CALL, identity::pack_audit(std::slice::from_ref(line))).await?;
        Ok(())
    }

    /// The lines of calls that were open when another process ended.
    pub(crate) async fn audit_left_open(&mut self) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO audit (id, at, actor, address, action, project, targets, target_count, result, message) \
             SELECT id, at, actor, address, action, project, '[]', 0, 'UNKNOWN', \
             'the controller ended before it answered; what it was asked may have been done' FROM open_calls",
        )
        .execute(self.connection())
        .await?;
        sqlx::query("DELETE FROM open_calls").execute(self.connection()).await?;
        Ok(())
    }

    /// Answers how many lines went.
    pub(crate) async fn forget_audit(&mut self, before: Timestamp) -> Result<u32, Error> {
        let gone = sqlx::query("DELETE FROM audit WHERE at < $1")
            .bind(before.as_micros())
            .execute(self.connection())
            .await?
            .rows_affected();
        Ok(u32::try_from(gone).unwrap_or(u32::MAX))
    }
}
