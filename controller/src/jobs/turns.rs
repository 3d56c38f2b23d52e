//! Whose turn it is in a batch that lets so many of its jobs go at once. Judged in the very transaction that ends one of
//! them or makes another ready, and before its claims: no place stays empty, no agent sees one too many, and nothing
//! sweeps, since nothing can be forgotten. Part of the writer.

use super::work::Work;
use crate::{
    lifecycle::Event,
    store::{Error, Tx},
};

pub(super) async fn settle(work: &mut Work, tx: &mut Tx) -> Result<(), Error> {
    let batches = work.take_turns();
    if batches.is_empty() {
        return Ok(());
    }
    work.save(tx).await?;
    for (batch, bound) in tx.bounded(batches.iter()).await? {
        let free = bound.saturating_sub(tx.going(&batch).await?);
        let next = if free > 0 { tx.next_turns(&batch, free).await? } else { Vec::new() };
        for view in tx.load_views(&next).await? {
            let id = view.row.job.id;
            let queue_deadline = view.spec.deadlines.queue.map(|length| work.now.plus(length));
            work.jobs.entry(id).or_insert(view.row);
            // It was ready a moment ago, in this very transaction.
            drop(work.apply(id, Event::TurnCame { queue_deadline }));
        }
    }
    Ok(())
}

/// `batch k3m9q2xw lets 4 of its jobs go at once, and 4 of them have not ended`
pub(super) fn sentence(batch: &str, bound: u32, going: u32) -> String {
    let have = if going == 1 { "1 of them has" } else { &format!("{going} of them have") };
    format!("waits for its turn: batch {batch} lets {bound} of its jobs go at once, and {have} not ended")
}
