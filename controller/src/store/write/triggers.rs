//! Triggers and firings inside a transaction.

use super::Tx;
use crate::store::{
    Error, FiringRow, PutTrigger, Record,
    dialect::{bytes, rows},
    pack_list,
    rows::{signed, to_json},
};
use longshore_common::{
    clock::Timestamp,
    ids::{FiringId, TriggerId},
};

const PUT: &str = "INSERT INTO triggers (id, project, name, spec, enabled, hook, owner_id, owner, cursor_at, \
     cursor_revision, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
     ON CONFLICT (id) DO UPDATE SET spec = excluded.spec, enabled = excluded.enabled, hook = excluded.hook, \
     owner_id = excluded.owner_id, owner = excluded.owner, cursor_at = excluded.cursor_at, \
     cursor_revision = excluded.cursor_revision, updated_at = excluded.updated_at";

const RECORD: &str = concat!(
    "INSERT INTO trigger_firings (id, trigger_id, event, kind, cause, at, depth, state, reason, next_try) SELECT ",
    bytes!("v.value->>'id'"),
    ", ",
    bytes!("v.value->>'trigger'"),
    ", v.value->>'event', v.value->>'kind', v.value->>'cause', CAST(v.value->>'at' AS BIGINT), \
     CAST(v.value->>'depth' AS BIGINT), v.value->>'state', v.value->>'reason', \
     CAST(v.value->>'next_try' AS BIGINT) FROM ",
    rows!("$1"),
    " AS v WHERE true ON CONFLICT (trigger_id, event) DO NOTHING",
);

/// Of those that came in.
const PAYLOADS: &str = concat!(
    "INSERT INTO trigger_payloads (firing_id, payload) SELECT f.id, v.value->>'payload' FROM ",
    rows!("$1"),
    " AS v JOIN trigger_firings AS f ON f.id = ",
    bytes!("v.value->>'id'"),
    " WHERE v.value->>'payload' IS NOT NULL",
);

const CURSORS: &str = concat!(
    "UPDATE triggers SET cursor_at = CAST(v.value->>1 AS BIGINT), \
     cursor_revision = CAST(v.value->>2 AS BIGINT) FROM ",
    rows!("$1"),
    " AS v WHERE triggers.id = ",
    bytes!("v.value->>0"),
);

/// The first that waits, of each.
const WAKE: &str = concat!(
    "UPDATE trigger_firings SET next_try = $2 WHERE id IN (SELECT MIN(f.id) FROM trigger_firings AS f JOIN ",
    rows!("$1"),
    " AS v ON f.trigger_id = ",
    bytes!("v.value"),
    " WHERE f.next_try IS NOT NULL GROUP BY f.trigger_id)",
);

const SEEN: &str = concat!(
    "INSERT INTO trigger_seen (trigger_id, name, mark) SELECT ",
    bytes!("v.value->>0"),
    ", v.value->>1, v.value->>2 FROM ",
    rows!("$1"),
    " AS v WHERE true ON CONFLICT (trigger_id, name) DO UPDATE SET mark = excluded.mark, \
     gone_at = NULL",
);

const GONE: &str = concat!(
    "UPDATE trigger_seen SET gone_at = $2 WHERE (trigger_id, name) IN (SELECT ",
    bytes!("v.value->>0"),
    ", v.value->>1 FROM ",
    rows!("$1"),
    " AS v)",
);

const FORGOTTEN: &str = concat!(
    "DELETE FROM trigger_seen WHERE (trigger_id, name) IN (SELECT ",
    bytes!("v.value->>0"),
    ", v.value->>1 FROM ",
    rows!("$1"),
    " AS v)",
);

const SETTLE: &str = concat!(
    "UPDATE trigger_firings SET state = v.value->>'state', reason = v.value->>'reason', \
     next_try = CAST(v.value->>'next_try' AS BIGINT), job_id = ",
    bytes!("v.value->>'job_id'"),
    ", job = v.value->>'job' FROM ",
    rows!("$1"),
    " AS v WHERE trigger_firings.id = ",
    bytes!("v.value->>'id'"),
);

const FORGET: &str = concat!(
    "DELETE FROM trigger_firings WHERE id IN (SELECT ",
    bytes!("v.value"),
    " FROM ",
    rows!("$1"),
    " AS v)"
);

const FORGET_PAYLOADS: &str = concat!(
    "DELETE FROM trigger_payloads WHERE firing_id IN (SELECT ",
    bytes!("v.value"),
    " FROM ",
    rows!("$1"),
    " AS v)",
);

#[derive(serde::Serialize)]
struct Packed<'a> {
    id: String,
    trigger: String,
    event: &'a str,
    kind: &'static str,
    cause: &'a str,
    at: i64,
    depth: u32,
    state: &'static str,
    reason: &'a str,
    next_try: Option<i64>,
    job_id: Option<String>,
    job: Option<&'a str>,
    payload: Option<&'a str>,
}

fn packed<'a>(row: &'a FiringRow, payload: Option<&'a str>) -> Packed<'a> {
    Packed {
        id: hex::encode(row.id.as_bytes()),
        trigger: hex::encode(row.trigger.as_bytes()),
        event: &row.event,
        kind: row.kind.as_str(),
        cause: &row.cause,
        at: row.at.as_micros(),
        depth: row.depth,
        state: row.state.as_str(),
        reason: &row.reason,
        next_try: row.next_try.map(Timestamp::as_micros),
        job_id: row.job.as_ref().map(|(id, _)| hex::encode(id.as_bytes())),
        job: row.job.as_ref().map(|(_, short)| short.as_str()),
        payload,
    }
}

impl Tx {
    pub(crate) async fn put_triggers(&mut self, puts: &[PutTrigger]) -> Result<(), Error> {
        for PutTrigger { row, afresh, seen } in puts {
            sqlx::query(PUT)
                .bind(&row.id.as_bytes()[..])
                .bind(&row.project)
                .bind(&row.spec.name)
                .bind(to_json(&row.spec))
                .bind(i64::from(row.enabled))
                .bind(&row.hook)
                .bind(&row.owner_id)
                .bind(&row.owner)
                .bind(row.cursor_at.as_micros())
                .bind(signed(row.cursor_revision))
                .bind(row.created_at.as_micros())
                .bind(row.updated_at.as_micros())
                .execute(self.connection())
                .await?;
            if *afresh {
                self.forget_seen(row.id).await?;
            }
            let seen: Vec<_> = seen.iter().map(|(name, mark)| (row.id, name.clone(), mark.clone())).collect();
            self.put_seen(&seen).await?;
        }
        Ok(())
    }

    /// What its jobs were told stays with them.
    pub(crate) async fn remove_trigger(&mut self, id: TriggerId) -> Result<(), Error> {
        self.forget_seen(id).await?;
        for sql in [
            "DELETE FROM trigger_payloads WHERE firing_id IN \
             (SELECT id FROM trigger_firings WHERE trigger_id = $1 AND job_id IS NULL)",
            "DELETE FROM trigger_firings WHERE trigger_id = $1 AND job_id IS NULL",
            "DELETE FROM triggers WHERE id = $1",
        ] {
            sqlx::query(sql).bind(&id.as_bytes()[..]).execute(self.connection()).await?;
        }
        Ok(())
    }

    /// Answers how many firings are new.
    pub(crate) async fn record_firings(&mut self, record: &Record) -> Result<u32, Error> {
        let mut new = 0;
        if !record.firings.is_empty() {
            let list = record.firings.iter().map(|(row, payload)| packed(row, Some(payload)));
            let list = pack_list(list);
            new = self.run(RECORD, list.clone()).await?;
            self.run(PAYLOADS, list).await?;
        }
        if !record.cursors.is_empty() {
            let cursors = record.cursors.iter();
            let cursors = cursors
                .map(|(id, at, revision)| (hex::encode(id.as_bytes()), at.as_micros(), signed(*revision)));
            self.run(CURSORS, pack_list(cursors)).await?;
        }
        if let Some((now, gone)) = &record.gone {
            let gone = pack_list(gone.iter().map(|(id, name)| (hex::encode(id.as_bytes()), name)));
            sqlx::query(GONE).bind(gone).bind(now.as_micros()).execute(self.connection()).await?;
        }
        if !record.forgotten.is_empty() {
            let forgotten = record.forgotten.iter().map(|(id, name)| (hex::encode(id.as_bytes()), name));
            self.run(FORGOTTEN, pack_list(forgotten)).await?;
        }
        if let Some((woken, now)) = &record.woken {
            let woken = pack_list(woken.iter().map(|id| hex::encode(id.as_bytes())));
            sqlx::query(WAKE).bind(woken).bind(now.as_micros()).execute(self.connection()).await?;
        }
        self.put_seen(&record.seen).await?;
        Ok(u32::try_from(new).unwrap_or(u32::MAX))
    }

    async fn put_seen(&mut self, seen: &[(TriggerId, String, String)]) -> Result<(), Error> {
        if !seen.is_empty() {
            let seen = seen.iter().map(|(id, name, mark)| (hex::encode(id.as_bytes()), name, mark));
            self.run(SEEN, pack_list(seen)).await?;
        }
        Ok(())
    }

    async fn forget_seen(&mut self, id: TriggerId) -> Result<(), Error> {
        sqlx::query("DELETE FROM trigger_seen WHERE trigger_id = $1")
            .bind(&id.as_bytes()[..])
            .execute(self.connection())
            .await?;
        Ok(())
    }

    pub(crate) async fn settle_firings(&mut self, settled: &[FiringRow]) -> Result<(), Error> {
        if !settled.is_empty() {
            self.run(SETTLE, pack_list(settled.iter().map(|row| packed(row, None)))).await?;
        }
        Ok(())
    }

    /// With what they were told. Answers how many went.
    pub(crate) async fn forget_firings(&mut self, ids: &[FiringId]) -> Result<u32, Error> {
        let list = pack_list(ids.iter().map(|id| hex::encode(id.as_bytes())));
        self.run(FORGET_PAYLOADS, list.clone()).await?;
        let gone = self.run(FORGET, list).await?;
        Ok(u32::try_from(gone).unwrap_or(u32::MAX))
    }
}
