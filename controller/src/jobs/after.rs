//! Jobs that wait for others: let go, or ended, in the very commit that ends what they wait for. Part of the writer.

use super::work::Work;
use crate::{
    lifecycle::Event,
    store::{Dependency, Error, Tx},
};
use longshore_common::ids::JobId;

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
        for id in concerned.drain(..) {
            let event = match verdict(dependencies.get(&id).map_or(&[][..], Vec::as_slice)) {
                Verdict::Waits => continue,
                Verdict::Met => Event::DependenciesMet,
                Verdict::Never(detail) => Event::DependencyFailed { detail },
            };
            let fails = matches!(event, Event::DependencyFailed { .. });
            // One that was cancelled in the same batch has ended already.
            if work.apply(id, event).is_ok() && fails {
                ended.push(id);
            }
        }
    }
    Ok(())
}
