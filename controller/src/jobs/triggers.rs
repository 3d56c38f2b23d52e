//! Triggers, as far as they are rows: when they fire and whether they may is `triggers`'.

use super::{Jobs, chores::Chore, error::Error};
use crate::store::{FiringRow, PutTrigger, Record, SeenObject, TriggerRow};
use longshore_common::{
    clock::Timestamp,
    ids::{FiringId, JobId, ShortId, TriggerId},
};

/// Firings with payloads of up to a few hundred kilobytes each, in one transaction.
const FORGOTTEN_AT_ONCE: u32 = 200;

impl Jobs {
    pub(crate) async fn triggers(&self) -> Result<Vec<TriggerRow>, Error> {
        Ok(self.inner.shared.store.triggers().await?)
    }

    pub(crate) async fn put_triggers(&self, puts: Vec<PutTrigger>) -> Result<(), Error> {
        self.chore(Chore::Triggers(puts)).await.map(drop)
    }

    pub(crate) async fn remove_trigger(&self, id: TriggerId) -> Result<(), Error> {
        self.chore(Chore::RemoveTrigger(id)).await.map(drop)
    }

    /// Answers how many firings are new: what was noted before is not noted again.
    pub(crate) async fn record_firings(&self, record: Record) -> Result<u32, Error> {
        self.chore(Chore::Firings(Box::new(record))).await
    }

    pub(crate) async fn settle_firings(&self, settled: Vec<FiringRow>) -> Result<(), Error> {
        self.chore(Chore::SettleFirings(settled)).await.map(drop)
    }

    /// All but the newest of each trigger, and those whose jobs are there. Answers how many went.
    pub(crate) async fn forget_firings(&self, keep: u32, before: Timestamp) -> Result<u32, Error> {
        let mut gone = 0;
        loop {
            let old = self.inner.shared.store.old_firings(keep, before, FORGOTTEN_AT_ONCE).await?;
            let last = old.len() < FORGOTTEN_AT_ONCE as usize;
            if !old.is_empty() {
                gone += self.chore(Chore::ForgetFirings(old)).await?;
            }
            if last {
                return Ok(gone);
            }
        }
    }

    pub(crate) async fn firings(
        &self,
        trigger: TriggerId,
        before: Option<FiringId>,
        limit: u32,
    ) -> Result<Vec<FiringRow>, Error> {
        Ok(self.inner.shared.store.firings(trigger, before, limit).await?)
    }

    pub(crate) async fn pending_firings(&self, now: Timestamp, limit: u32) -> Result<Vec<FiringRow>, Error> {
        Ok(self.inner.shared.store.pending_firings(now, limit).await?)
    }

    pub(crate) async fn next_firing(&self) -> Result<Option<Timestamp>, Error> {
        Ok(self.inner.shared.store.next_firing().await?)
    }

    pub(crate) async fn firing_of(
        &self,
        trigger: TriggerId,
        event: &str,
    ) -> Result<Option<FiringRow>, Error> {
        Ok(self.inner.shared.store.firing_of(trigger, event).await?)
    }

    pub(crate) async fn firing(&self, id: FiringId) -> Result<Option<FiringRow>, Error> {
        Ok(self.inner.shared.store.firing(id).await?)
    }

    pub(crate) async fn first_waiting_of(&self, trigger: TriggerId) -> Result<Option<FiringId>, Error> {
        Ok(self.inner.shared.store.first_waiting_of(trigger).await?)
    }

    pub(crate) async fn firing_payload(&self, firing: FiringId) -> Result<Option<String>, Error> {
        Ok(self.inner.shared.store.firing_payload(firing).await?)
    }

    pub(crate) async fn unfinished_of(&self, trigger: TriggerId) -> Result<Vec<(JobId, ShortId)>, Error> {
        // More than a few are there only if the policy was another before.
        Ok(self.inner.shared.store.unfinished_of(trigger, 1_000).await?)
    }

    pub(crate) async fn waiting_of(&self, trigger: TriggerId) -> Result<u64, Error> {
        Ok(self.inner.shared.store.waiting_of(trigger).await?)
    }

    pub(crate) async fn seen_by(&self, trigger: TriggerId) -> Result<Vec<SeenObject>, Error> {
        Ok(self.inner.shared.store.seen_by(trigger).await?)
    }

    pub(crate) async fn fired_since(&self, trigger: TriggerId, since: Timestamp) -> Result<u64, Error> {
        Ok(self.inner.shared.store.fired_since(trigger, since).await?)
    }
}
