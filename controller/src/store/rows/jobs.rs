//! The rows of `jobs` and `job_specs`.

use super::{from_json, micros, parse, signed, small, time, to_json, unsigned};
use crate::{
    jobs::{InBatch, JobAction, Submitter},
    lifecycle::{Desired, Ending, Job, Latest},
    store::Error,
};
use longshore_common::{
    clock::Timestamp,
    ids::{AgentId, AttemptRef, Epoch, JobId, ShortId},
    job::{JobSpec, JobState},
    queue::Lane,
};
use serde::Serialize;
use sqlx::{Row as _, sqlite::SqliteRow};
use std::sync::Arc;

/// A job without its spec.
#[derive(Clone, Debug)]
pub(crate) struct JobRow {
    pub(crate) job: Job,
    pub(crate) short_id: ShortId,
    pub(crate) project: String,
    pub(crate) name: String,
    pub(crate) lane: Lane,
    pub(crate) queued_at: Timestamp,
    pub(crate) created_at: Timestamp,
    pub(crate) retry_of: Option<ShortId>,
    pub(crate) action: Option<JobAction>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) revision: u64,
    pub(crate) submitter: Option<Submitter>,
    pub(crate) batch: Option<InBatch>,
}

/// A job with its spec and the name of its agent.
#[derive(Clone, Debug)]
pub(crate) struct ViewRow {
    pub(crate) row: JobRow,
    pub(crate) spec: Arc<JobSpec>,
    /// Of its stored text: about what it takes in a message. Zero for a job that is being written.
    pub(crate) spec_bytes: usize,
    pub(crate) agent: Option<String>,
}

/// A job to be inserted.
#[derive(Clone, Debug)]
pub(crate) struct NewJobRow {
    pub(crate) row: JobRow,
    pub(crate) spec: Arc<JobSpec>,
}

impl JobRow {
    pub(in crate::store) fn read(row: &SqliteRow) -> Result<Self, Error> {
        let id = job_id(row.try_get("id")?)?;
        let desired = match row.try_get("desired")? {
            "run" => Desired::Run,
            "cancel" => Desired::Cancel {
                by: row.try_get::<Option<_>, _>("cancel_by")?.unwrap_or_default(),
                reason: row.try_get::<Option<_>, _>("cancel_reason")?.unwrap_or_default(),
            },
            other => return Err(Error::corrupt("a desired state", other)),
        };
        let attempts = small(row.try_get("attempts")?);
        let job = Job {
            id,
            state: parse::<JobState>("a job state", row.try_get("state")?)?,
            desired,
            attempts,
            handed_back: small(row.try_get("handed_back")?),
            died_on: from_json("a list of agents", row.try_get("died_on")?)?,
            latest: latest(row, id, attempts)?,
            blocked: row.try_get::<i64, _>("blocked")? != 0,
            awaits_turn: row.try_get::<i64, _>("awaits_turn")? != 0,
            not_before: time(row.try_get("not_before")?),
            queue_deadline: time(row.try_get("queue_deadline")?),
            ending: ending(row)?,
            finished_at: time(row.try_get("finished_at")?),
            retry: from_json("a retry policy", row.try_get("retry")?)?,
        };
        Ok(Self {
            job,
            short_id: parse("a short id", row.try_get("short_id")?)?,
            project: row.try_get("project")?,
            name: row.try_get("name")?,
            lane: parse("a lane", row.try_get("lane")?)?,
            queued_at: Timestamp::from_micros(row.try_get("queued_at")?),
            created_at: Timestamp::from_micros(row.try_get("created_at")?),
            retry_of: row
                .try_get::<Option<&str>, _>("retry_of")?
                .map(|id| parse("a short id", id))
                .transpose()?,
            action: action(row)?,
            started_at: time(row.try_get("started_at")?),
            expires_at: time(row.try_get("expires_at")?),
            revision: unsigned(row.try_get("revision")?),
            submitter: submitter(row)?,
            batch: in_batch(row)?,
        })
    }
}

impl ViewRow {
    /// Needs the columns `spec` and `agent_name` too.
    pub(in crate::store) fn read(row: &SqliteRow) -> Result<Self, Error> {
        let spec: &str = row.try_get("spec")?;
        Ok(Self {
            row: JobRow::read(row)?,
            spec: Arc::new(from_json("a job spec", spec)?),
            spec_bytes: spec.len(),
            agent: row.try_get("agent_name")?,
        })
    }
}

pub(in crate::store) fn job_id(bytes: &[u8]) -> Result<JobId, Error> {
    JobId::from_slice(bytes).map_err(|error| Error::corrupt("a job id", error))
}

pub(in crate::store) fn agent_id(bytes: &[u8]) -> Result<AgentId, Error> {
    AgentId::from_slice(bytes).map_err(|error| Error::corrupt("an agent id", error))
}

pub(in crate::store) fn ending(row: &SqliteRow) -> Result<Option<Ending>, Error> {
    let Some(outcome) = row.try_get::<Option<&str>, _>("outcome")? else { return Ok(None) };
    Ok(Some(Ending {
        outcome: parse("an outcome", outcome)?,
        detail: row.try_get::<Option<_>, _>("detail")?.unwrap_or_default(),
    }))
}

fn submitter(row: &SqliteRow) -> Result<Option<Submitter>, Error> {
    let Some(token) = row.try_get("submitter")? else { return Ok(None) };
    Ok(Some(Submitter { token, name: row.try_get::<Option<_>, _>("submitter_name")?.unwrap_or_default() }))
}

fn action(row: &SqliteRow) -> Result<Option<JobAction>, Error> {
    let (Some(name), Some(version)) =
        (row.try_get("action")?, row.try_get::<Option<i64>, _>("action_version")?)
    else {
        return Ok(None);
    };
    Ok(Some(JobAction { name, version: small(version) }))
}

fn in_batch(row: &SqliteRow) -> Result<Option<InBatch>, Error> {
    let (Some(id), Some(number)) =
        (row.try_get::<Option<&str>, _>("batch")?, row.try_get::<Option<i64>, _>("batch_row")?)
    else {
        return Ok(None);
    };
    Ok(Some(InBatch { id: parse("a batch id", id)?, row: small(number) }))
}

fn latest(row: &SqliteRow, job: JobId, number: u32) -> Result<Option<Latest>, Error> {
    let (Some(epoch), Some(agent)) = (row.try_get("epoch")?, row.try_get::<Option<&[u8]>, _>("agent_id")?)
    else {
        return Ok(None);
    };
    Ok(Some(Latest {
        attempt: AttemptRef { job, number, epoch: Epoch(unsigned(epoch)) },
        agent: agent_id(agent)?,
        reported: row.try_get::<i64, _>("reported")? != 0,
    }))
}

/// What of a job changes.
#[derive(Serialize)]
struct Changing<'a> {
    id: String,
    state: &'static str,
    desired: &'static str,
    cancel_by: Option<&'a str>,
    cancel_reason: Option<&'a str>,
    attempts: u32,
    handed_back: u32,
    died_on: String,
    epoch: Option<i64>,
    agent_id: Option<String>,
    reported: u8,
    blocked: u8,
    awaits_turn: u8,
    queued_at: i64,
    not_before: Option<i64>,
    queue_deadline: Option<i64>,
    outcome: Option<String>,
    detail: Option<&'a str>,
    started_at: Option<i64>,
    finished_at: Option<i64>,
    expires_at: Option<i64>,
    revision: i64,
}

/// What of a job is written once.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    changing: Changing<'a>,
    short_id: &'a str,
    project: &'a str,
    name: &'a str,
    lane: &'a str,
    rank: i64,
    cpu: u32,
    memory: i64,
    scratch: i64,
    gpus: u32,
    retry: String,
    retry_of: Option<&'a str>,
    action: Option<&'a str>,
    action_version: Option<u32>,
    created_at: i64,
    spec: String,
    labels: String,
    submitter: Option<&'a str>,
    submitter_name: Option<&'a str>,
    batch: Option<&'a str>,
    batch_row: Option<u32>,
}

fn changing(row: &JobRow) -> Changing<'_> {
    let job = &row.job;
    let (desired, by, reason) = match &job.desired {
        Desired::Run => ("run", None, None),
        Desired::Cancel { by, reason } => ("cancel", Some(by.as_str()), Some(reason.as_str())),
    };
    Changing {
        id: hex::encode(job.id.as_bytes()),
        state: job.state.as_str(),
        desired,
        cancel_by: by,
        cancel_reason: reason,
        attempts: job.attempts,
        handed_back: job.handed_back,
        died_on: to_json(&job.died_on),
        epoch: job.latest.map(|latest| signed(latest.attempt.epoch.0)),
        agent_id: job.latest.map(|latest| hex::encode(latest.agent.as_bytes())),
        reported: job.latest.is_some_and(|latest| latest.reported).into(),
        blocked: job.blocked.into(),
        awaits_turn: job.awaits_turn.into(),
        queued_at: row.queued_at.as_micros(),
        not_before: micros(job.not_before),
        queue_deadline: micros(job.queue_deadline),
        outcome: job.ending.as_ref().map(|ending| ending.outcome.to_string()),
        detail: job.ending.as_ref().map(|ending| ending.detail.as_str()),
        started_at: micros(row.started_at),
        finished_at: micros(job.finished_at),
        expires_at: micros(row.expires_at),
        revision: signed(row.revision),
    }
}

fn whole(new: &NewJobRow) -> Whole<'_> {
    let NewJobRow { row, spec } = new;
    Whole {
        changing: changing(row),
        short_id: row.short_id.as_str(),
        project: &row.project,
        name: &row.name,
        lane: row.lane.as_str(),
        rank: -i64::from(spec.priority),
        cpu: spec.resources.cpu_millis,
        memory: signed(spec.resources.memory_bytes),
        scratch: signed(spec.resources.scratch_bytes),
        gpus: spec.resources.whole_gpus(),
        retry: to_json(&row.job.retry),
        retry_of: row.retry_of.as_ref().map(ShortId::as_str),
        action: row.action.as_ref().map(|action| action.name.as_str()),
        action_version: row.action.as_ref().map(|action| action.version),
        created_at: row.created_at.as_micros(),
        spec: to_json(&**spec),
        labels: to_json(&spec.labels),
        submitter: row.submitter.as_ref().map(|submitter| submitter.token.as_str()),
        submitter_name: row.submitter.as_ref().map(|submitter| submitter.name.as_str()),
        batch: row.batch.as_ref().map(|batch| batch.id.as_str()),
        batch_row: row.batch.as_ref().map(|batch| batch.row),
    }
}

/// Many changed jobs as one bind.
pub(in crate::store) fn pack_changed<'a>(rows: impl Iterator<Item = &'a JobRow>) -> String {
    super::pack_list(rows.map(changing))
}

/// Many new jobs as one bind.
pub(in crate::store) fn pack_new(rows: &[NewJobRow]) -> String {
    super::pack_list(rows.iter().map(whole))
}
