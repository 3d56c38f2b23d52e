//! New batches: every job of one, or none of them. Part of the writer.

use super::super::{
    submit::{Checked, Round, add},
    types::{InBatch, Order, SubmitError, Submitter},
    work::Work,
};
use crate::store::{BatchRequestRow, BatchRow};
use longshore_common::ids::ShortId;

/// A batch to be made. The specs of its jobs are complete and valid.
#[derive(Clone, Debug)]
pub struct NewBatch {
    /// Chosen by the client, with a digest of all that it sent.
    pub request: Option<(String, Vec<u8>)>,
    pub project: String,
    pub name: String,
    /// So many of its jobs are let go at once; `None`: all.
    pub max_parallel: Option<u32>,
    pub retry_of: Option<ShortId>,
    pub submitter: Option<Submitter>,
    /// With their rows, from 1.
    pub jobs: Vec<(u32, Order)>,
}

/// Specs of a batch together: they are in memory, and written at once.
pub const LARGEST_BATCH: usize = 64 << 20;

/// What is left of that.
#[derive(Debug)]
pub struct Room(usize);

impl Default for Room {
    fn default() -> Self {
        Self(LARGEST_BATCH)
    }
}

impl Room {
    /// Whether there was room for one more.
    pub fn takes(&mut self, order: &Order) -> bool {
        let bytes = serde_json::to_vec(&order.new.spec).map_or(0, |spec| spec.len());
        let left = self.0.checked_sub(bytes);
        self.0 = left.unwrap_or_default();
        left.is_some()
    }
}

/// One whose jobs were looked at.
#[derive(Debug)]
pub(in crate::jobs) struct CheckedBatch {
    pub(in crate::jobs) request: Option<(String, Vec<u8>)>,
    pub(in crate::jobs) project: String,
    pub(in crate::jobs) name: String,
    pub(in crate::jobs) max_parallel: Option<u32>,
    pub(in crate::jobs) retry_of: Option<ShortId>,
    pub(in crate::jobs) submitter: Option<Submitter>,
    pub(in crate::jobs) jobs: Vec<Checked>,
    /// Of the jobs, in their order.
    pub(in crate::jobs) rows: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeBatch {
    pub id: ShortId,
    /// The same request was made before.
    pub existing: bool,
}

/// Why none of a batch was taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("request_id `{request_id}` was used for another batch ({batch}); choose a new one")]
    RequestIdReused { request_id: String, batch: ShortId },
    #[error("request_id `{request_id}` made batch {batch}, which was removed; choose a new one")]
    RequestOfRemoved { request_id: String, batch: ShortId },
    #[error("{} of its jobs are refused, so none was made", .0.len())]
    Rows(Vec<(u32, SubmitError)>),
    #[error(transparent)]
    Refused(#[from] SubmitError),
}

/// The batch with all of its jobs, or none of them.
pub(in crate::jobs) fn make(
    batch: &CheckedBatch,
    round: &mut Round,
    work: &mut Work,
) -> Result<MadeBatch, BatchError> {
    let key = batch.request.as_ref().map(|(id, _)| (batch.project.clone(), id.clone()));
    if let Some((row, there)) = key.as_ref().and_then(|key| round.known.batches.get(key)) {
        return again(batch, row, *there);
    }
    let refused = |(job, row): (&Checked, &u32)| {
        let error = job.refused.clone().or_else(|| round.known.missing(&job.new.spec, work))?;
        Some((*row, error))
    };
    let refused: Vec<_> = batch.jobs.iter().zip(&batch.rows).filter_map(refused).collect();
    if !refused.is_empty() {
        return Err(BatchError::Rows(refused));
    }
    round.known.queues.enter(&batch.project, batch.jobs.len() as u64)?;
    let id = ShortId::random();
    work.batches.push(row(&id, batch, work));
    for (job, row) in batch.jobs.iter().zip(&batch.rows) {
        let place = InBatch { id: id.clone(), row: *row };
        add(&job.new, job.action.as_ref(), Some((place, batch.max_parallel.is_some())), work);
    }
    if let (Some(key), Some((_, digest))) = (key, &batch.request) {
        let (project, request_id) = key.clone();
        let row = BatchRequestRow { project, request_id, digest: digest.clone(), batch: id.clone() };
        work.batch_requests.push(row.clone());
        round.known.batches.insert(key, (row, true));
    }
    Ok(MadeBatch { id, existing: false })
}

/// The same answer as the first time.
fn again(batch: &CheckedBatch, row: &BatchRequestRow, there: bool) -> Result<MadeBatch, BatchError> {
    let (request_id, id) = (row.request_id.clone(), row.batch.clone());
    if batch.request.as_ref().is_none_or(|(_, digest)| *digest != row.digest) {
        return Err(BatchError::RequestIdReused { request_id, batch: id });
    }
    if there {
        Ok(MadeBatch { id, existing: true })
    } else {
        Err(BatchError::RequestOfRemoved { request_id, batch: id })
    }
}

fn row(id: &ShortId, batch: &CheckedBatch, work: &Work) -> BatchRow {
    BatchRow {
        id: id.clone(),
        project: batch.project.clone(),
        name: batch.name.clone(),
        max_parallel: batch.max_parallel,
        total: u32::try_from(batch.jobs.len()).unwrap_or(u32::MAX),
        created_at: work.now,
        submitter: batch.submitter.as_ref().map(|submitter| submitter.name.clone()),
        retry_of: batch.retry_of.clone(),
    }
}
