//! Jobs that wait for others: let go, or ended, in the very commit that ends what they wait for. Part of the writer.

use super::work::Work;
use crate::{
    lifecycle::Event,
    store::{Dependency, Error, Tx},
};
use longshore_common::{clock::Timestamp, ids::JobId};
use std::collections::HashMap;

/// What the jobs that it waits for mean for a job.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Met,
    Waits,
    Never(String),
}

pub(super) fn verdict(all: &[Dependency]) -> Verdict {
    let mut waits = false;
    for Dependency { job, when, state, outcome } in all {
        let Some(state) = state else {
            return Verdict::Never(format!("job {job} is not there any more"));
        };
        match when.holds(*state) {
            Some(true) => {}
            Some(false) => {
                return Verdict::Never(format!("job {job} has ended as {outcome}, and was to have {when}"));
            }
            None => waits = true,
        }
    }
    if waits { Verdict::Waits } else { Verdict::Met }
}

/// `waits for job k3m9q2xw (running) to have succeeded`.
pub(super) fn sentence(all: &[Dependency]) -> String {
    let open = all.iter().filter(|one| one.state.is_some_and(|state| one.when.holds(state).is_none()));
    let said = open.map(|one| {
        let state = one.state.map(|state| state.to_string()).unwrap_or_default();
        format!("job {} ({state}) to have {}", one.job, one.when)
    });
    let said: Vec<_> = said.collect();
    if said.is_empty() { "begins now".to_owned() } else { format!("waits for {}", said.join(", ")) }
}

/// Until nothing follows any more: a job that can never begin ends, and others may wait for that.
pub(super) async fn settle(work: &mut Work, tx: &mut Tx) -> Result<(), Error> {
    let mut ended: Vec<JobId> = work.ended().collect();
    let mut concerned = work.take_blocked();
    while !ended.is_empty() || !concerned.is_empty() {
        work.save(tx).await?;
        concerned.extend(tx.blocked_by(&ended).await?);
        ended.clear();
        if concerned.is_empty() {
            return Ok(());
        }
        let unknown: Vec<_> = concerned.iter().filter(|id| !work.jobs.contains_key(id)).copied().collect();
        work.jobs.extend(tx.load_jobs(&unknown).await?.into_iter().map(|row| (row.job.id, row)));
        let dependencies = tx.dependencies(&concerned).await?;
        let judged = concerned.drain(..).map(|id| {
            let all = dependencies.get(&id).map_or(&[][..], Vec::as_slice);
            (id, verdict(all))
        });
        let verdicts: Vec<_> = judged.collect();
        let met = verdicts.iter().filter(|(_, verdict)| *verdict == Verdict::Met).map(|(id, _)| *id);
        let queue = queue_deadlines(&met.collect::<Vec<_>>(), work, tx).await?;
        for (id, verdict) in verdicts {
            let fails = matches!(verdict, Verdict::Never(_));
            let event = match verdict {
                Verdict::Waits => continue,
                Verdict::Met => Event::DependenciesMet { queue_deadline: queue.get(&id).copied().flatten() },
                Verdict::Never(detail) => Event::DependencyFailed { detail },
            };
            // One that was cancelled in the same batch has ended already.
            if work.apply(id, event).is_ok() && fails {
                ended.push(id);
            }
        }
    }
    Ok(())
}

/// Until when an agent has to claim those that are let go: their time in a queue begins now.
async fn queue_deadlines(
    released: &[JobId],
    work: &Work,
    tx: &mut Tx,
) -> Result<HashMap<JobId, Option<Timestamp>>, Error> {
    let views = tx.load_views(released).await?;
    let deadlines = views.iter().map(|view| {
        let begins = view.row.job.not_before.map_or(work.now, |start| start.max(work.now));
        (view.row.job.id, view.spec.deadlines.queue.map(|length| begins.plus(length)))
    });
    Ok(deadlines.collect())
}
