//! Remove: rows go at once, the bytes they named soon after (`reconcile::retention`).

use super::{
    Jobs,
    chores::Chore,
    command::Command,
    error::Error,
    types::{Needed, Removed},
    work::Work,
};
use crate::store::{self, Dependents, Tx};
use longshore_common::{
    clock::Timestamp,
    ids::{JobId, ShortId},
};
use std::collections::HashMap;

/// How long a claim is remembered: an agent that has no answer asks again within seconds.
const CLAIM_MEMORY: std::time::Duration = std::time::Duration::from_secs(600);
/// Uploads that were opened before are over: their addresses end after a day.
const UPLOADS: std::time::Duration = std::time::Duration::from_secs(48 * 3600);
/// Jobs removed in one transaction.
const PAGE: u32 = 200;

/// Ended jobs to be removed.
#[derive(Debug)]
pub(super) struct Removal {
    pub(super) jobs: Vec<JobId>,
    /// All of them or none.
    whole: bool,
}

impl Jobs {
    /// Removes ended jobs with their attempts, logs and artifacts: all of them, or none and why.
    pub async fn remove(&self, jobs: Vec<JobId>) -> Result<Removed, Error> {
        self.call(Command::Remove, Removal { jobs, whole: true }).await
    }

    /// Removes jobs and inputs whose time is over and forgets old requests. Answers how many jobs went.
    pub async fn remove_expired(&self) -> Result<usize, Error> {
        let shared = &self.inner.shared;
        let now = Timestamp::now();
        let mut count = 0;
        loop {
            let expired = shared.store.expired_jobs(now, PAGE).await?;
            let removal = Removal { jobs: expired, whole: false };
            let removed = self.call(Command::Remove, removal).await?.jobs.len();
            count += removed;
            // What is refused now goes with a later sweep.
            if removed < PAGE as usize {
                break;
            }
        }
        let kept = shared.config.retention + shared.config.request_memory;
        while self.chore(Chore::RemoveInputs { before: now.minus(kept), limit: PAGE }).await? > 0 {}
        self.chore(Chore::ForgetContents(now.minus(UPLOADS))).await?;
        self.chore(Chore::Forget { claims: now.minus(CLAIM_MEMORY), requests: now.minus(kept) }).await?;
        shared.store.shrink().await?;
        Ok(count)
    }

    /// Bytes of `kind` (`object`, `log`) that nothing names any more.
    pub(crate) async fn garbage(&self, kind: &'static str, limit: u32) -> Result<Vec<String>, Error> {
        Ok(self.inner.shared.store.garbage(kind, limit).await?)
    }

    /// They have gone.
    pub(crate) async fn drop_garbage(&self, kind: &'static str, names: Vec<String>) -> Result<(), Error> {
        self.chore(Chore::DropGarbage { kind, names }).await?;
        Ok(())
    }
}

/// Who needs the jobs that are to be removed.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<ShortId, Dependents>);

impl Known {
    pub(super) async fn load(batch: &[Command], tx: &mut Tx) -> Result<Self, store::Error> {
        let mut jobs = Vec::new();
        for command in batch {
            if let Command::Remove(call) = command {
                jobs.extend(&call.input.jobs);
            }
        }
        Ok(Self(tx.dependents(&jobs).await?))
    }

    fn needed(&self, job: &ShortId, work: &Work) -> Option<Needed> {
        let stored = self.0.get(job).cloned().unwrap_or_default();
        let (mut by, mut count) = (stored.jobs, stored.count);
        if let Some(new) = work.named_by(job) {
            by.push(new.clone());
            count += 1;
        }
        (count > 0).then(|| Needed { job: job.clone(), by, count })
    }
}

pub(super) fn apply(removal: &Removal, known: &Known, work: &mut Work) -> Removed {
    let mut removed = Removed::default();
    let mut ids = Vec::new();
    for id in &removal.jobs {
        let Some(row) = work.jobs.get(id) else { continue };
        let short_id = row.short_id.clone();
        if !row.job.state.is_terminal() {
            removed.unfinished.push(short_id);
        } else if let Some(needed) = known.needed(&short_id, work) {
            removed.needed.push(needed);
        } else {
            ids.push((*id, short_id));
        }
    }
    if removal.whole && !(removed.unfinished.is_empty() && removed.needed.is_empty()) {
        return removed;
    }
    for (id, short_id) in ids {
        work.remove(id, &short_id);
        removed.jobs.push(short_id);
    }
    removed
}
