//! The rows of `triggers` and `trigger_firings`.

use super::{from_json, jobs::job_id, parse, small, time, unsigned};
use crate::store::Error;
use longshore_common::{
    clock::Timestamp,
    ids::{FiringId, JobId, ShortId, TriggerId},
    trigger::{Kind, TriggerSpec},
};
use sqlx::{Row as _, sqlite::SqliteRow};

#[derive(Clone, Debug)]
pub(crate) struct TriggerRow {
    pub(crate) id: TriggerId,
    pub(crate) project: String,
    pub(crate) spec: TriggerSpec,
    pub(crate) enabled: bool,
    pub(crate) hook: Option<String>,
    pub(crate) owner_id: String,
    pub(crate) owner: String,
    pub(crate) cursor_at: Timestamp,
    pub(crate) cursor_revision: u64,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

/// One that is to be written.
#[derive(Clone, Debug)]
pub(crate) struct PutTrigger {
    pub(crate) row: TriggerRow,
    /// Forgets the objects that it has seen.
    pub(crate) afresh: bool,
    /// Objects that count as seen from now on, and their marks.
    pub(crate) seen: Vec<(String, String)>,
}

/// What is remembered of an object.
#[derive(Clone, Debug)]
pub(crate) struct SeenObject {
    pub(crate) name: String,
    pub(crate) mark: String,
    /// When it was first missed.
    pub(crate) gone_at: Option<Timestamp>,
}

/// What became of a firing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FiringState {
    Pending,
    Fired,
    /// By the trigger's own policy.
    Skipped,
    Refused,
}

impl FiringState {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Fired => "fired",
            Self::Skipped => "skipped",
            Self::Refused => "refused",
        }
    }

    fn read(text: &str) -> Result<Self, Error> {
        let all = [Self::Pending, Self::Fired, Self::Skipped, Self::Refused];
        let found = all.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| Error::corrupt("a state of a firing", text))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct FiringRow {
    pub(crate) id: FiringId,
    pub(crate) trigger: TriggerId,
    /// Unique among those of its trigger.
    pub(crate) event: String,
    pub(crate) kind: Kind,
    pub(crate) cause: String,
    pub(crate) at: Timestamp,
    pub(crate) depth: u32,
    pub(crate) state: FiringState,
    pub(crate) reason: String,
    /// Of a pending one.
    pub(crate) next_try: Option<Timestamp>,
    pub(crate) job: Option<(JobId, ShortId)>,
}

/// Firings to be written with what they move on: all of it, or nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    /// With their payloads.
    pub(crate) firings: Vec<(FiringRow, String)>,
    pub(crate) cursors: Vec<(TriggerId, Timestamp, u64)>,
    /// Objects, and their marks.
    pub(crate) seen: Vec<(TriggerId, String, String)>,
    /// Those whose firings may be tried at once, as of now.
    pub(crate) woken: Option<(Vec<TriggerId>, Timestamp)>,
    /// Objects that are not there any more, as of now.
    pub(crate) gone: Option<(Timestamp, Vec<(TriggerId, String)>)>,
    /// Objects that have been gone for long.
    pub(crate) forgotten: Vec<(TriggerId, String)>,
}

impl TriggerRow {
    pub(in crate::store) fn read(row: &SqliteRow) -> Result<Self, Error> {
        Ok(Self {
            id: trigger_id(row.try_get("id")?)?,
            project: row.try_get("project")?,
            spec: from_json("a trigger", row.try_get("spec")?)?,
            enabled: row.try_get::<i64, _>("enabled")? != 0,
            hook: row.try_get("hook")?,
            owner_id: row.try_get("owner_id")?,
            owner: row.try_get("owner")?,
            cursor_at: Timestamp::from_micros(row.try_get("cursor_at")?),
            cursor_revision: unsigned(row.try_get("cursor_revision")?),
            created_at: Timestamp::from_micros(row.try_get("created_at")?),
            updated_at: Timestamp::from_micros(row.try_get("updated_at")?),
        })
    }
}

impl FiringRow {
    pub(in crate::store) fn read(row: &SqliteRow) -> Result<Self, Error> {
        let id: &[u8] = row.try_get("id")?;
        let job = match (row.try_get::<Option<&[u8]>, _>("job_id")?, row.try_get::<Option<&str>, _>("job")?) {
            (Some(id), Some(short)) => Some((job_id(id)?, parse("a short id", short)?)),
            _ => None,
        };
        Ok(Self {
            id: FiringId::from_slice(id).map_err(|error| Error::corrupt("a firing id", error))?,
            trigger: trigger_id(row.try_get("trigger_id")?)?,
            event: row.try_get("event")?,
            kind: parse("a kind of trigger", row.try_get("kind")?)?,
            cause: row.try_get("cause")?,
            at: Timestamp::from_micros(row.try_get("at")?),
            depth: small(row.try_get("depth")?),
            state: FiringState::read(row.try_get("state")?)?,
            reason: row.try_get("reason")?,
            next_try: time(row.try_get("next_try")?),
            job,
        })
    }
}

fn trigger_id(bytes: &[u8]) -> Result<TriggerId, Error> {
    TriggerId::from_slice(bytes).map_err(|error| Error::corrupt("a trigger id", error))
}
