//! Triggers and what became of them.

use crate::store::{
    Error, FiringRow, SeenObject, Store, TriggerRow,
    rows::{jobs::job_id, unsigned},
};
use longshore_common::{
    clock::Timestamp,
    ids::{FiringId, JobId, ShortId, TriggerId},
};
use sqlx::Row as _;

impl Store {
    pub(crate) async fn triggers(&self) -> Result<Vec<TriggerRow>, Error> {
        let rows = sqlx::query("SELECT * FROM triggers ORDER BY id").fetch_all(&self.read).await?;
        rows.iter().map(TriggerRow::read).collect()
    }

    /// Newest first, of those before `before`.
    pub(crate) async fn firings(
        &self,
        trigger: TriggerId,
        before: Option<FiringId>,
        limit: u32,
    ) -> Result<Vec<FiringRow>, Error> {
        let before = before.map_or([0xff; 16], |id| *id.as_bytes());
        let rows = sqlx::query(
            "SELECT * FROM trigger_firings WHERE trigger_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
        )
        .bind(&trigger.as_bytes()[..])
        .bind(&before[..])
        .bind(i64::from(limit))
        .fetch_all(&self.read)
        .await?;
        rows.iter().map(FiringRow::read).collect()
    }

    /// Those to be tried at `now`, in the order in which they came.
    pub(crate) async fn pending_firings(&self, now: Timestamp, limit: u32) -> Result<Vec<FiringRow>, Error> {
        let rows = sqlx::query(
            "SELECT * FROM trigger_firings WHERE next_try IS NOT NULL AND next_try <= $1 ORDER BY id LIMIT $2",
        )
        .bind(now.as_micros())
        .bind(i64::from(limit))
        .fetch_all(&self.read)
        .await?;
        rows.iter().map(FiringRow::read).collect()
    }

    /// When the next one is to be tried.
    pub(crate) async fn next_firing(&self) -> Result<Option<Timestamp>, Error> {
        let row = sqlx::query("SELECT MIN(next_try) FROM trigger_firings WHERE next_try IS NOT NULL")
            .fetch_one(&self.read)
            .await?;
        Ok(row.try_get::<Option<i64>, _>(0)?.map(Timestamp::from_micros))
    }

    pub(crate) async fn firing_of(
        &self,
        trigger: TriggerId,
        event: &str,
    ) -> Result<Option<FiringRow>, Error> {
        let row = sqlx::query("SELECT * FROM trigger_firings WHERE trigger_id = $1 AND event = $2")
            .bind(&trigger.as_bytes()[..])
            .bind(event)
            .fetch_optional(&self.read)
            .await?;
        row.as_ref().map(FiringRow::read).transpose()
    }

    pub(crate) async fn firing(&self, id: FiringId) -> Result<Option<FiringRow>, Error> {
        let row = sqlx::query("SELECT * FROM trigger_firings WHERE id = $1")
            .bind(&id.as_bytes()[..])
            .fetch_optional(&self.read)
            .await?;
        row.as_ref().map(FiringRow::read).transpose()
    }

    /// The first of those of a trigger that wait.
    pub(crate) async fn first_waiting_of(&self, trigger: TriggerId) -> Result<Option<FiringId>, Error> {
        let row =
            sqlx::query("SELECT MIN(id) FROM trigger_firings WHERE trigger_id = $1 AND next_try IS NOT NULL")
                .bind(&trigger.as_bytes()[..])
                .fetch_one(&self.read)
                .await?;
        let id = row.try_get::<Option<&[u8]>, _>(0)?.map(FiringId::from_slice).transpose();
        id.map_err(|error| Error::corrupt("a firing id", error))
    }

    /// Those that nobody asks about any more: beyond the newest of their trigger, or of one that was removed; settled
    /// before then; and without a job that is there.
    pub(crate) async fn old_firings(
        &self,
        keep: u32,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<FiringId>, Error> {
        let rows = sqlx::query(
            "SELECT f.id FROM (SELECT id, trigger_id, at, job_id, next_try, \
             ROW_NUMBER() OVER (PARTITION BY trigger_id ORDER BY id DESC) AS place FROM trigger_firings) AS f \
             WHERE f.next_try IS NULL AND f.at < $2 \
             AND (f.place > $1 OR NOT EXISTS (SELECT 1 FROM triggers AS t WHERE t.id = f.trigger_id)) \
             AND NOT EXISTS (SELECT 1 FROM jobs AS j WHERE j.id = f.job_id) LIMIT $3",
        )
        .bind(i64::from(keep))
        .bind(before.as_micros())
        .bind(i64::from(limit))
        .fetch_all(&self.read)
        .await?;
        rows.iter()
            .map(|row| {
                FiringId::from_slice(row.try_get(0)?).map_err(|error| Error::corrupt("a firing id", error))
            })
            .collect()
    }

    pub(crate) async fn firing_payload(&self, firing: FiringId) -> Result<Option<String>, Error> {
        let row = sqlx::query("SELECT payload FROM trigger_payloads WHERE firing_id = $1")
            .bind(&firing.as_bytes()[..])
            .fetch_optional(&self.read)
            .await?;
        row.map(|row| Ok(row.try_get(0)?)).transpose()
    }

    /// Jobs of a trigger that have not ended, the oldest first.
    pub(crate) async fn unfinished_of(
        &self,
        trigger: TriggerId,
        limit: u32,
    ) -> Result<Vec<(JobId, ShortId)>, Error> {
        let rows = sqlx::query(
            "SELECT f.job_id, f.job FROM trigger_firings AS f JOIN jobs AS j ON j.id = f.job_id \
             WHERE f.trigger_id = $1 AND j.finished_at IS NULL ORDER BY f.id LIMIT $2",
        )
        .bind(&trigger.as_bytes()[..])
        .bind(i64::from(limit))
        .fetch_all(&self.read)
        .await?;
        rows.iter()
            .map(|row| {
                let short: &str = row.try_get("job")?;
                let short = short.parse().map_err(|error| Error::corrupt("a short id", error))?;
                Ok((job_id(row.try_get("job_id")?)?, short))
            })
            .collect()
    }

    /// How many firings of a trigger wait.
    pub(crate) async fn waiting_of(&self, trigger: TriggerId) -> Result<u64, Error> {
        let row = sqlx::query(
            "SELECT COUNT(*) FROM trigger_firings WHERE trigger_id = $1 AND next_try IS NOT NULL",
        )
        .bind(&trigger.as_bytes()[..])
        .fetch_one(&self.read)
        .await?;
        Ok(unsigned(row.try_get(0)?))
    }

    /// Objects that a trigger has seen, by name.
    pub(crate) async fn seen_by(&self, trigger: TriggerId) -> Result<Vec<SeenObject>, Error> {
        let sql = "SELECT name, mark, gone_at FROM trigger_seen WHERE trigger_id = $1 ORDER BY name";
        let rows = sqlx::query(sql).bind(&trigger.as_bytes()[..]).fetch_all(&self.read).await?;
        rows.iter()
            .map(|row| {
                let gone_at = row.try_get::<Option<i64>, _>("gone_at")?.map(Timestamp::from_micros);
                Ok(SeenObject { name: row.try_get("name")?, mark: row.try_get("mark")?, gone_at })
            })
            .collect()
    }

    /// How many firings of a trigger were noted since then.
    pub(crate) async fn fired_since(&self, trigger: TriggerId, since: Timestamp) -> Result<u64, Error> {
        let row = sqlx::query("SELECT COUNT(*) FROM trigger_firings WHERE trigger_id = $1 AND at >= $2")
            .bind(&trigger.as_bytes()[..])
            .bind(since.as_micros())
            .fetch_one(&self.read)
            .await?;
        Ok(unsigned(row.try_get(0)?))
    }
}
