//! The rows of `attempts`.

use super::{
    from_json,
    jobs::{agent_id, ending, job_id},
    micros, parse, signed, small, time, to_json, unsigned,
};
use crate::{lifecycle::Ending, store::Error};
use longshore_common::{
    agent::{Gpu, GpuUsage, Usage},
    clock::Timestamp,
    ids::{AgentId, AttemptRef, Epoch},
    job::JobState,
};
use serde::{Deserialize, Serialize};
use sqlx::{Row as _, sqlite::SqliteRow};

/// A GPU as it was granted: the machine may have others tomorrow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GrantedGpu {
    pub(crate) index: u32,
    pub(crate) model: String,
    pub(crate) uuid: String,
}

impl From<&Gpu> for GrantedGpu {
    fn from(gpu: &Gpu) -> Self {
        Self { index: gpu.index, model: gpu.model.clone(), uuid: gpu.uuid.clone() }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct AttemptRow {
    pub(crate) attempt: AttemptRef,
    pub(crate) agent: AgentId,
    /// Known where the query asked for it.
    pub(crate) agent_name: Option<String>,
    pub(crate) nonce: String,
    pub(crate) gpus: Vec<GrantedGpu>,
    pub(crate) claimed_at: Timestamp,
    pub(crate) state: JobState,
    pub(crate) reported: bool,
    pub(crate) ending: Option<Ending>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) exited_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) log_end: u64,
    pub(crate) artifact_count: u64,
    pub(crate) artifact_bytes: u64,
    pub(crate) usage: Usage,
    pub(crate) notes: Vec<String>,
    /// How many controllers granted it a whole lease since its agent was last heard of.
    pub(crate) unheard: u32,
    /// When the last of these leases ends.
    pub(crate) lease_until: Option<Timestamp>,
    /// Objects with an ordinal below this may exist.
    pub(crate) opened: u64,
    /// Of the image that ran, as the registry names it.
    pub(crate) digest: Option<String>,
}

impl AttemptRow {
    /// Needs the column `agent_name` too.
    pub(in crate::store) fn read(row: &SqliteRow) -> Result<Self, Error> {
        let attempt = AttemptRef {
            job: job_id(row.try_get("job_id")?)?,
            number: small(row.try_get("number")?),
            epoch: Epoch(unsigned(row.try_get("epoch")?)),
        };
        Ok(Self {
            attempt,
            agent: agent_id(row.try_get("agent_id")?)?,
            agent_name: row.try_get("agent_name")?,
            nonce: row.try_get("nonce")?,
            gpus: from_json("granted GPUs", row.try_get("gpus")?)?,
            claimed_at: Timestamp::from_micros(row.try_get("claimed_at")?),
            state: parse("an attempt's state", row.try_get("state")?)?,
            reported: row.try_get::<i64, _>("reported")? != 0,
            ending: ending(row)?,
            started_at: time(row.try_get("started_at")?),
            exited_at: time(row.try_get("exited_at")?),
            finished_at: time(row.try_get("finished_at")?),
            log_end: unsigned(row.try_get("log_end")?),
            artifact_count: unsigned(row.try_get("artifact_count")?),
            artifact_bytes: unsigned(row.try_get("artifact_bytes")?),
            usage: Usage {
                cpu_micros: unsigned(row.try_get("cpu_micros")?),
                memory_peak_bytes: unsigned(row.try_get("memory_peak")?),
                disk_peak_bytes: unsigned(row.try_get("disk_peak")?),
                gpu: gpu_usage(row)?,
            },
            notes: from_json("notes", row.try_get("notes")?)?,
            unheard: small(row.try_get("unheard")?),
            lease_until: time(row.try_get("lease_until")?),
            opened: unsigned(row.try_get("opened")?),
            digest: row.try_get("digest")?,
        })
    }
}

/// Nothing for an attempt that is not over.
fn gpu_usage(row: &SqliteRow) -> Result<GpuUsage, Error> {
    let stored: Option<&str> = row.try_get("gpu_usage")?;
    stored.map_or_else(|| Ok(GpuUsage::default()), |text| from_json("use of GPUs", text))
}

/// What became of an attempt in a batch. `None` leaves a column as it is.
#[derive(Clone, Debug)]
pub(crate) struct AttemptUpdate {
    pub(crate) attempt: AttemptRef,
    pub(crate) state: JobState,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) exited_at: Option<Timestamp>,
    /// Its agent was heard of.
    pub(crate) heard: bool,
    pub(crate) digest: Option<String>,
    pub(crate) close: Option<AttemptClose>,
}

#[derive(Clone, Debug)]
pub(crate) struct AttemptClose {
    pub(crate) ending: Ending,
    pub(crate) finished_at: Timestamp,
    pub(crate) reported: bool,
    pub(crate) log_end: u64,
    pub(crate) artifact_count: u64,
    pub(crate) artifact_bytes: u64,
    pub(crate) usage: Usage,
    pub(crate) notes: Vec<String>,
}

#[derive(Serialize)]
struct Opened<'a> {
    job_id: String,
    number: u32,
    epoch: i64,
    agent_id: String,
    nonce: &'a str,
    gpus: String,
    claimed_at: i64,
    state: &'static str,
}

#[derive(Serialize)]
struct Updated<'a> {
    job_id: String,
    number: u32,
    state: &'static str,
    started_at: Option<i64>,
    exited_at: Option<i64>,
    reported: Option<u8>,
    outcome: Option<String>,
    detail: Option<&'a str>,
    finished_at: Option<i64>,
    log_end: Option<i64>,
    artifact_count: Option<i64>,
    artifact_bytes: Option<i64>,
    cpu_micros: Option<i64>,
    memory_peak: Option<i64>,
    disk_peak: Option<i64>,
    gpu_usage: Option<String>,
    notes: Option<String>,
    unheard: Option<u8>,
    digest: Option<&'a str>,
}

/// Many new attempts as one bind.
pub(in crate::store) fn pack_opened<'a>(rows: impl Iterator<Item = &'a AttemptRow>) -> String {
    super::pack_list(rows.map(|row| Opened {
        job_id: hex::encode(row.attempt.job.as_bytes()),
        number: row.attempt.number,
        epoch: signed(row.attempt.epoch.0),
        agent_id: hex::encode(row.agent.as_bytes()),
        nonce: &row.nonce,
        gpus: to_json(&row.gpus),
        claimed_at: row.claimed_at.as_micros(),
        state: row.state.as_str(),
    }))
}

/// Many changed attempts as one bind.
pub(in crate::store) fn pack_updated<'a>(rows: impl Iterator<Item = &'a AttemptUpdate>) -> String {
    super::pack_list(rows.map(|row| {
        let close = row.close.as_ref();
        Updated {
            job_id: hex::encode(row.attempt.job.as_bytes()),
            number: row.attempt.number,
            state: row.state.as_str(),
            started_at: micros(row.started_at),
            exited_at: micros(row.exited_at),
            reported: close.map(|close| close.reported.into()),
            outcome: close.map(|close| close.ending.outcome.to_string()),
            detail: close.map(|close| close.ending.detail.as_str()),
            finished_at: close.map(|close| close.finished_at.as_micros()),
            log_end: close.map(|close| signed(close.log_end)),
            artifact_count: close.map(|close| signed(close.artifact_count)),
            artifact_bytes: close.map(|close| signed(close.artifact_bytes)),
            cpu_micros: close.map(|close| signed(close.usage.cpu_micros)),
            memory_peak: close.map(|close| signed(close.usage.memory_peak_bytes)),
            disk_peak: close.map(|close| signed(close.usage.disk_peak_bytes)),
            gpu_usage: close.map(|close| to_json(&close.usage.gpu)),
            notes: close.map(|close| to_json(&close.notes)),
            unheard: row.heard.then_some(0),
            digest: row.digest.as_deref(),
        }
    }))
}
