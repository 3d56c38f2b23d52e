//! Remove: rows go at once, the bytes they named soon after (`reconcile::retention`).

use super::{Jobs, chores::Chore, command::Command, error::Error, types::Removed, work::Work};
use longshore_common::{clock::Timestamp, ids::JobId};

/// How long a claim is remembered: an agent that has no answer asks again within seconds.
const CLAIM_MEMORY: std::time::Duration = std::time::Duration::from_secs(600);
/// Jobs removed in one transaction.
const PAGE: u32 = 200;

impl Jobs {
    /// Removes ended jobs with their attempts, logs and artifacts.
    pub async fn remove(&self, jobs: Vec<JobId>) -> Result<Removed, Error> {
        let mut removed = Removed::default();
        for page in jobs.chunks(PAGE as usize) {
            let mut answer = self.call(Command::Remove, page.to_vec()).await?;
            removed.jobs.append(&mut answer.jobs);
            removed.unfinished.append(&mut answer.unfinished);
        }
        Ok(removed)
    }

    /// Removes jobs and inputs whose time is over and forgets old requests. Answers how many jobs went.
    pub async fn remove_expired(&self) -> Result<usize, Error> {
        let shared = &self.inner.shared;
        let now = Timestamp::now();
        let mut count = 0;
        loop {
            let expired = shared.store.expired_jobs(now, PAGE).await?;
            if expired.is_empty() {
                break;
            }
            count += self.remove(expired).await?.jobs.len();
        }
        let kept = shared.config.retention + shared.config.request_memory;
        while self.chore(Chore::RemoveInputs { before: now.minus(kept), limit: PAGE }).await? > 0 {}
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

pub(super) fn apply(jobs: &[JobId], work: &mut Work) -> Removed {
    let mut removed = Removed::default();
    for id in jobs {
        let Some(row) = work.jobs.get(id) else { continue };
        let short_id = row.short_id.clone();
        if row.job.state.is_terminal() {
            work.remove(*id);
            removed.jobs.push(short_id);
        } else {
            removed.unfinished.push(short_id);
        }
    }
    removed
}
