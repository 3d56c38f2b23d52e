//! Jobs and attempts inside a transaction.

use super::Tx;
use crate::store::{
    AttemptRow, AttemptUpdate, Error, JobRow, NewJobRow, ViewRow,
    dialect::{bytes, rows},
    pack_list,
    rows::{attempts, jobs, signed},
};
use longshore_common::{
    clock::Timestamp,
    ids::{AttemptRef, JobId},
};
use sqlx::Row as _;
use std::collections::HashMap;

/// Jobs of one statement: a batch of ten thousand is not one text.
const INSERTED: usize = 500;

const LOAD: &str =
    concat!("SELECT j.* FROM ", rows!("$1"), " AS v JOIN jobs AS j ON j.id = ", bytes!("v.value"),);

const VIEWS: &str = concat!(
    "SELECT j.*, s.spec, a.name AS agent_name FROM ",
    rows!("$1"),
    " AS v JOIN jobs AS j ON j.id = ",
    bytes!("v.value"),
    " JOIN job_specs AS s ON s.job_id = j.id LEFT JOIN agents AS a ON a.id = j.agent_id",
);

const INSERT: &str = concat!(
    "INSERT INTO jobs (id, short_id, project, name, lane, rank, queued_at, cpu, memory, scratch, gpus, retry, \
     retry_of, action, action_version, created_at, state, desired, attempts, handed_back, reported, blocked, \
     not_before, queue_deadline, revision, submitter, submitter_name, batch, batch_row, awaits_turn) \
     SELECT ",
    bytes!("v.value->>'id'"),
    ", v.value->>'short_id', v.value->>'project', v.value->>'name', v.value->>'lane', \
     CAST(v.value->>'rank' AS BIGINT), CAST(v.value->>'queued_at' AS BIGINT), CAST(v.value->>'cpu' AS BIGINT), \
     CAST(v.value->>'memory' AS BIGINT), CAST(v.value->>'scratch' AS BIGINT), CAST(v.value->>'gpus' AS BIGINT), \
     v.value->>'retry', v.value->>'retry_of', v.value->>'action', CAST(v.value->>'action_version' AS BIGINT), \
     CAST(v.value->>'created_at' AS BIGINT), v.value->>'state', \
     v.value->>'desired', 0, 0, 0, CAST(v.value->>'blocked' AS BIGINT), \
     CAST(v.value->>'not_before' AS BIGINT), \
     CAST(v.value->>'queue_deadline' AS BIGINT), CAST(v.value->>'revision' AS BIGINT), v.value->>'submitter', \
     v.value->>'submitter_name', v.value->>'batch', CAST(v.value->>'batch_row' AS BIGINT), \
     CAST(v.value->>'awaits_turn' AS BIGINT) FROM ",
    rows!("$1"),
    " AS v",
);

const INSERT_SPECS: &str = concat!(
    "INSERT INTO job_specs (job_id, spec, labels) SELECT ",
    bytes!("v.value->>'id'"),
    ", v.value->>'spec', v.value->>'labels' FROM ",
    rows!("$1"),
    " AS v",
);

const UPDATE: &str = concat!(
    "UPDATE jobs SET state = v.value->>'state', desired = v.value->>'desired', \
     cancel_by = v.value->>'cancel_by', cancel_reason = v.value->>'cancel_reason', \
     attempts = CAST(v.value->>'attempts' AS BIGINT), handed_back = CAST(v.value->>'handed_back' AS BIGINT), \
     died_on = v.value->>'died_on', \
     epoch = CAST(v.value->>'epoch' AS BIGINT), agent_id = ",
    bytes!("v.value->>'agent_id'"),
    ", reported = CAST(v.value->>'reported' AS BIGINT), \
     blocked = CAST(v.value->>'blocked' AS BIGINT), \
     awaits_turn = CAST(v.value->>'awaits_turn' AS BIGINT), queued_at = CAST(v.value->>'queued_at' AS BIGINT), \
     not_before = CAST(v.value->>'not_before' AS BIGINT), \
     queue_deadline = CAST(v.value->>'queue_deadline' AS BIGINT), outcome = v.value->>'outcome', \
     detail = v.value->>'detail', started_at = CAST(v.value->>'started_at' AS BIGINT), \
     finished_at = CAST(v.value->>'finished_at' AS BIGINT), expires_at = CAST(v.value->>'expires_at' AS BIGINT), \
     revision = CAST(v.value->>'revision' AS BIGINT) FROM ",
    rows!("$1"),
    " AS v WHERE jobs.id = ",
    bytes!("v.value->>'id'"),
);

const OPEN_ATTEMPTS: &str = concat!(
    "INSERT INTO attempts (job_id, number, epoch, agent_id, nonce, gpus, claimed_at, state, reported, log_end, \
     artifact_count, artifact_bytes, cpu_micros, memory_peak, disk_peak, notes) SELECT ",
    bytes!("v.value->>'job_id'"),
    ", CAST(v.value->>'number' AS BIGINT), CAST(v.value->>'epoch' AS BIGINT), ",
    bytes!("v.value->>'agent_id'"),
    ", v.value->>'nonce', v.value->>'gpus', CAST(v.value->>'claimed_at' AS BIGINT), v.value->>'state', \
     0, 0, 0, 0, 0, 0, 0, '[]' FROM ",
    rows!("$1"),
    " AS v",
);

const UPDATE_ATTEMPTS: &str = concat!(
    "UPDATE attempts SET state = v.value->>'state', \
     started_at = COALESCE(CAST(v.value->>'started_at' AS BIGINT), started_at), \
     exited_at = COALESCE(CAST(v.value->>'exited_at' AS BIGINT), exited_at), \
     reported = COALESCE(CAST(v.value->>'reported' AS BIGINT), reported), \
     outcome = COALESCE(v.value->>'outcome', outcome), detail = COALESCE(v.value->>'detail', detail), \
     finished_at = COALESCE(CAST(v.value->>'finished_at' AS BIGINT), finished_at), \
     log_end = COALESCE(CAST(v.value->>'log_end' AS BIGINT), log_end), \
     artifact_count = COALESCE(CAST(v.value->>'artifact_count' AS BIGINT), artifact_count), \
     artifact_bytes = COALESCE(CAST(v.value->>'artifact_bytes' AS BIGINT), artifact_bytes), \
     cpu_micros = COALESCE(CAST(v.value->>'cpu_micros' AS BIGINT), cpu_micros), \
     memory_peak = COALESCE(CAST(v.value->>'memory_peak' AS BIGINT), memory_peak), \
     disk_peak = COALESCE(CAST(v.value->>'disk_peak' AS BIGINT), disk_peak), \
     gpu_usage = COALESCE(v.value->>'gpu_usage', gpu_usage), notes = COALESCE(v.value->>'notes', notes), \
     digest = COALESCE(v.value->>'digest', digest), \
     unheard = COALESCE(CAST(v.value->>'unheard' AS BIGINT), unheard) FROM ",
    rows!("$1"),
    " AS v WHERE attempts.job_id = ",
    bytes!("v.value->>'job_id'"),
    " AND attempts.number = CAST(v.value->>'number' AS BIGINT)",
);

/// `[[job, number, unheard, lease_until], …]`
const OWN: &str = concat!(
    "UPDATE attempts SET unheard = CAST(v.value->>2 AS BIGINT), lease_until = CAST(v.value->>3 AS BIGINT) FROM ",
    rows!("$1"),
    " AS v WHERE attempts.job_id = ",
    bytes!("v.value->>0"),
    " AND attempts.number = CAST(v.value->>1 AS BIGINT)",
);

/// Whether these attempts were reported: `[[job, number], …]`.
const ATTEMPTS: &str = concat!(
    "SELECT t.*, NULL AS agent_name FROM ",
    rows!("$1"),
    " AS v JOIN attempts AS t ON t.job_id = ",
    bytes!("v.value->>0"),
    " AND t.number = CAST(v.value->>1 AS BIGINT)",
);

/// The first known digest of each of these jobs.
const DIGESTS: &str = concat!(
    "SELECT t.job_id, t.digest, MIN(t.number) FROM ",
    rows!("$1"),
    " AS v JOIN attempts AS t ON t.job_id = ",
    bytes!("v.value"),
    " AND t.digest IS NOT NULL GROUP BY t.job_id",
);

impl Tx {
    /// What the first attempt that is known to have had an image ran.
    pub(crate) async fn first_digests(&mut self, jobs: &[JobId]) -> Result<HashMap<JobId, String>, Error> {
        if jobs.is_empty() {
            return Ok(HashMap::new());
        }
        let list = pack_list(jobs.iter().map(|id| hex::encode(id.as_bytes())));
        let rows = sqlx::query(DIGESTS).bind(list).fetch_all(self.connection()).await?;
        rows.iter().map(|row| Ok((jobs::job_id(row.try_get("job_id")?)?, row.try_get("digest")?))).collect()
    }

    pub(crate) async fn load_jobs(&mut self, ids: &[JobId]) -> Result<Vec<JobRow>, Error> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows = sqlx::query(LOAD).bind(pack_ids(ids)).fetch_all(self.connection()).await?;
        rows.iter().map(JobRow::read).collect()
    }

    pub(crate) async fn load_views(&mut self, ids: &[JobId]) -> Result<Vec<ViewRow>, Error> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows = sqlx::query(VIEWS).bind(pack_ids(ids)).fetch_all(self.connection()).await?;
        rows.iter().map(ViewRow::read).collect()
    }

    pub(crate) async fn load_attempts(&mut self, attempts: &[AttemptRef]) -> Result<Vec<AttemptRow>, Error> {
        if attempts.is_empty() {
            return Ok(Vec::new());
        }
        let list = pack_list(attempts.iter().map(|a| (hex::encode(a.job.as_bytes()), a.number)));
        let rows = sqlx::query(ATTEMPTS).bind(list).fetch_all(self.connection()).await?;
        rows.iter().map(AttemptRow::read).collect()
    }

    pub(crate) async fn insert_jobs(&mut self, new: &[NewJobRow]) -> Result<(), Error> {
        if new.is_empty() {
            return Ok(());
        }
        for new in new.chunks(INSERTED) {
            let list = jobs::pack_new(new);
            self.run(INSERT, list.clone()).await?;
            if new.iter().any(|new| new.row.action.is_some()) {
                self.count_made(list.clone()).await?;
            }
            self.run(INSERT_SPECS, list).await?;
            self.insert_sources(new).await?;
        }
        Ok(())
    }

    pub(crate) async fn update_jobs<'a>(
        &mut self,
        changed: impl ExactSizeIterator<Item = &'a JobRow> + Clone,
    ) -> Result<(), Error> {
        if changed.len() == 0 {
            return Ok(());
        }
        let ends = |row: &JobRow| row.action.is_some() && row.job.finished_at.is_some();
        let any_ends = changed.clone().any(ends);
        let list = jobs::pack_changed(changed);
        if any_ends {
            self.count_ended(list.clone()).await?;
        }
        self.run(UPDATE, list).await.map(drop)
    }

    pub(crate) async fn insert_attempts<'a>(
        &mut self,
        opened: impl ExactSizeIterator<Item = &'a AttemptRow>,
    ) -> Result<(), Error> {
        if opened.len() > 0 {
            self.run(OPEN_ATTEMPTS, attempts::pack_opened(opened)).await?;
        }
        Ok(())
    }

    pub(crate) async fn update_attempts<'a>(
        &mut self,
        changed: impl ExactSizeIterator<Item = &'a AttemptUpdate>,
    ) -> Result<(), Error> {
        if changed.len() > 0 {
            self.run(UPDATE_ATTEMPTS, attempts::pack_updated(changed)).await?;
        }
        Ok(())
    }

    /// A new controller has these attempts now: how often that happened unheard, and until when it waits for each.
    pub(crate) async fn own_leases(&mut self, owned: &[(AttemptRef, u32, Timestamp)]) -> Result<(), Error> {
        let owned = owned.iter().map(|(attempt, unheard, until)| {
            (hex::encode(attempt.job.as_bytes()), attempt.number, *unheard, until.as_micros())
        });
        self.run(OWN, pack_list(owned)).await?;
        Ok(())
    }

    /// Keeps the counter of changes, so that it never goes back when jobs are removed.
    pub(crate) async fn set_revision(&mut self, revision: u64) -> Result<(), Error> {
        sqlx::query("UPDATE cluster SET revision = $1")
            .bind(signed(revision))
            .execute(self.connection())
            .await?;
        Ok(())
    }
}

pub(in crate::store) fn pack_ids(ids: &[JobId]) -> String {
    pack_list(ids.iter().map(|id| hex::encode(id.as_bytes())))
}
