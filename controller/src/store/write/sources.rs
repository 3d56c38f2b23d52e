//! What jobs are made of, and which jobs are made of what: a source may not go before those that name it have ended.

use super::Tx;
use crate::store::{
    Error, NewJobRow,
    dialect::{bytes, item, rows},
    pack_list,
    rows::{parse, unsigned},
};
use longshore_common::{
    ids::{JobId, ShortId},
    job::{Input, JobSpec},
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
        spec.inputs.values().filter_map(Self::of)
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

impl Tx {
    pub(super) async fn insert_sources(&mut self, new: &[NewJobRow]) -> Result<(), Error> {
        let named = new.iter().flat_map(|new| {
            let id = hex::encode(new.row.job.id.as_bytes());
            Source::all(&new.spec).map(move |source| {
                let (kind, name) = source.packed();
                (id.clone(), kind, name.to_owned())
            })
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
