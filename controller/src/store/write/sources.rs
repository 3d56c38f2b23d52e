//! What jobs are made of, and which jobs are made of what: a source may not go before those that name it have ended.

use super::Tx;
use crate::store::{
    Error, NewJobRow,
    dialect::{bytes, item, rows},
    pack_list,
    rows::{jobs::job_id, parse, unsigned},
};
use longshore_common::{
    ids::{JobId, ShortId},
    job::{Input, JobSpec, JobState, When},
};
use sqlx::{Row as _, sqlite::SqliteRow};
use std::collections::HashMap;

/// Dependents told by name.
const SHOWN: i64 = 5;

/// A thing that goes away when someone removes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// The outputs of the job of this short id.
    Job(String),
    /// The uploaded input of this id.
    Input(String),
}

impl Source {
    /// `None`: it is not ours to keep.
    pub(crate) fn of(input: &Input) -> Option<Self> {
        match input {
            Input::Job { job, .. } => Some(Self::Job(job.clone())),
            Input::Uploaded { id } => Some(Self::Input(id.clone())),
            Input::Url { .. } | Input::Share(_) => None,
        }
    }

    pub(crate) fn all(spec: &JobSpec) -> impl Iterator<Item = Self> {
        let after = spec.after.iter().map(|after| Self::Job(after.job.clone()));
        spec.inputs.values().filter_map(Self::of).chain(after)
    }

    fn packed(&self) -> (&'static str, &str) {
        match self {
            Self::Job(name) => ("job", name),
            Self::Input(name) => ("input", name),
        }
    }
}

/// Unfinished jobs that are made of one job's outputs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dependents {
    /// The first few.
    pub(crate) jobs: Vec<ShortId>,
    pub(crate) count: u64,
}

const INSERT: &str = concat!(
    "INSERT INTO job_sources (job_id, kind, name) SELECT ",
    bytes!("v.value->>0"),
    ", v.value->>1, v.value->>2 FROM ",
    rows!("$1"),
    " AS v WHERE true ON CONFLICT (job_id, kind, name) DO NOTHING",
);

const PRESENT_JOBS: &str = concat!(
    "SELECT j.short_id FROM ",
    rows!("$1"),
    " AS v JOIN jobs AS j ON j.short_id = ",
    item!("v.value")
);

const PRESENT_INPUTS: &str =
    concat!("SELECT i.id FROM ", rows!("$1"), " AS v JOIN inputs AS i ON i.id = ", item!("v.value"));

pub(in crate::store) const DEPENDENTS: &str = concat!(
    "SELECT name, short_id, total FROM (SELECT s.name, j.short_id, \
     ROW_NUMBER() OVER (PARTITION BY s.name ORDER BY j.id) AS place, COUNT(*) OVER (PARTITION BY s.name) AS total \
     FROM ",
    rows!("$1"),
    " AS v JOIN jobs AS o ON o.id = ",
    bytes!("v.value"),
    " JOIN job_sources AS s ON s.kind = 'job' AND s.name = o.short_id \
     JOIN jobs AS j ON j.id = s.job_id WHERE j.finished_at IS NULL) AS d WHERE place <= $2 ORDER BY name, place",
);

/// A job that another one waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dependency {
    pub(crate) job: String,
    pub(crate) when: When,
    /// `None`: it is not there.
    pub(crate) state: Option<JobState>,
    pub(crate) outcome: String,
}

const fn kind_of(when: When) -> &'static str {
    match when {
        When::Succeeded => "after_succeeded",
        When::Failed => "after_failed",
        When::Finished => "after_finished",
    }
}

/// Jobs that wait for one of these.
const BLOCKED_BY: &str = concat!(
    "SELECT DISTINCT s.job_id FROM ",
    rows!("$1"),
    " AS v JOIN jobs AS o ON o.id = ",
    bytes!("v.value"),
    " JOIN job_sources AS s ON s.kind IN ('after_succeeded', 'after_failed', 'after_finished') \
     AND s.name = o.short_id JOIN jobs AS j ON j.id = s.job_id WHERE j.blocked = 1",
);

const DEPENDENCIES: &str = concat!(
    "SELECT s.job_id, s.kind, s.name, o.state, o.outcome FROM ",
    rows!("$1"),
    " AS v JOIN job_sources AS s ON s.job_id = ",
    bytes!("v.value"),
    " AND s.kind IN ('after_succeeded', 'after_failed', 'after_finished') \
     LEFT JOIN jobs AS o ON o.short_id = s.name ORDER BY s.name, s.kind",
);

pub(in crate::store) async fn dependencies(
    connection: impl sqlx::SqliteExecutor<'_>,
    jobs: &[JobId],
) -> Result<HashMap<JobId, Vec<Dependency>>, Error> {
    let mut found: HashMap<JobId, Vec<Dependency>> = HashMap::new();
    for row in sqlx::query(DEPENDENCIES).bind(super::jobs::pack_ids(jobs)).fetch_all(connection).await? {
        let kind: &str = row.try_get("kind")?;
        let when = When::ALL.into_iter().find(|when| kind_of(*when) == kind);
        let state = row.try_get::<Option<&str>, _>("state")?;
        found.entry(job_id(row.try_get("job_id")?)?).or_default().push(Dependency {
            job: row.try_get("name")?,
            when: when.ok_or_else(|| Error::corrupt("a dependency", kind))?,
            state: state.map(|state| parse("a job state", state)).transpose()?,
            outcome: row.try_get::<Option<_>, _>("outcome")?.unwrap_or_default(),
        });
    }
    Ok(found)
}

impl Tx {
    /// Jobs that wait for one of these.
    pub(crate) async fn blocked_by(&mut self, ended: &[JobId]) -> Result<Vec<JobId>, Error> {
        if ended.is_empty() {
            return Ok(Vec::new());
        }
        let list = super::jobs::pack_ids(ended);
        let rows = sqlx::query(BLOCKED_BY).bind(list).fetch_all(self.connection()).await?;
        rows.iter().map(|row| job_id(row.try_get(0)?)).collect()
    }

    /// What each of these jobs waits for.
    pub(crate) async fn dependencies(
        &mut self,
        jobs: &[JobId],
    ) -> Result<HashMap<JobId, Vec<Dependency>>, Error> {
        dependencies(self.connection(), jobs).await
    }

    pub(super) async fn insert_sources(&mut self, new: &[NewJobRow]) -> Result<(), Error> {
        let named = new.iter().flat_map(|new| {
            let id = hex::encode(new.row.job.id.as_bytes());
            let after = new.spec.after.iter().map(|after| (kind_of(after.when), after.job.clone()));
            let sources = Source::all(&new.spec).map(|source| {
                let (kind, name) = source.packed();
                (kind, name.to_owned())
            });
            let all: Vec<_> = sources.chain(after).collect();
            all.into_iter().map(move |(kind, name)| (id.clone(), kind, name))
        });
        let named: Vec<_> = named.collect();
        if !named.is_empty() {
            self.run(INSERT, pack_list(named)).await?;
        }
        Ok(())
    }

    /// Those of them that are there.
    pub(crate) async fn present(&mut self, sources: &[Source]) -> Result<Vec<Source>, Error> {
        let names = |wanted: &str| {
            let packed = sources.iter().map(Source::packed);
            pack_list(packed.filter(|(kind, _)| *kind == wanted).map(|(_, name)| name))
        };
        let (jobs, inputs) = (names("job"), names("input"));
        let mut present = Vec::new();
        if sources.is_empty() {
            return Ok(present);
        }
        for row in sqlx::query(PRESENT_JOBS).bind(jobs).fetch_all(self.connection()).await? {
            present.push(Source::Job(row.try_get(0)?));
        }
        for row in sqlx::query(PRESENT_INPUTS).bind(inputs).fetch_all(self.connection()).await? {
            present.push(Source::Input(row.try_get(0)?));
        }
        Ok(present)
    }

    /// By the short id of the job they need.
    pub(crate) async fn dependents(&mut self, jobs: &[JobId]) -> Result<HashMap<ShortId, Dependents>, Error> {
        if jobs.is_empty() {
            return Ok(HashMap::new());
        }
        let list = super::jobs::pack_ids(jobs);
        read_dependents(&sqlx::query(DEPENDENTS).bind(list).bind(SHOWN).fetch_all(self.connection()).await?)
    }
}

fn read_dependents(rows: &[SqliteRow]) -> Result<HashMap<ShortId, Dependents>, Error> {
    let mut found: HashMap<ShortId, Dependents> = HashMap::new();
    for row in rows {
        let dependents = found.entry(parse("a short id", row.try_get(0)?)?).or_default();
        dependents.jobs.push(parse("a short id", row.try_get(1)?)?);
        dependents.count = unsigned(row.try_get(2)?);
    }
    Ok(found)
}
