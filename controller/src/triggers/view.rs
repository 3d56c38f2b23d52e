//! Triggers as people see them.

use super::{Error, Triggers, clock};
use crate::{
    identity::Token,
    jobs::Page,
    store::{FiringRow, FiringState, TriggerRow},
};
use longshore_common::{
    access::Role,
    clock::Timestamp,
    ids::{FiringId, ShortId, TriggerId},
    trigger::{Kind, TriggerSpec, When},
};
use std::sync::Arc;

/// Of the triggers in one page of a list: clients take 4 MiB by default.
const PAGE_BYTES: usize = 2 << 20;

#[derive(Clone, Debug)]
pub struct TriggerView {
    pub id: TriggerId,
    pub project: String,
    pub spec: TriggerSpec,
    pub enabled: bool,
    pub owner: String,
    /// Why it does not fire.
    pub owner_problem: Option<String>,
    pub hook_path: Option<String>,
    pub next_at: Option<Timestamp>,
    pub problem: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub last: Option<FiringView>,
}

#[derive(Clone, Debug)]
pub struct FiringView {
    pub id: FiringId,
    pub at: Timestamp,
    pub kind: Kind,
    pub cause: String,
    state: FiringState,
    pub reason: String,
    pub job: Option<ShortId>,
    pub depth: u32,
}

impl FiringView {
    pub(crate) const fn state(&self) -> FiringState {
        self.state
    }
}

impl Triggers {
    pub async fn get(&self, project: &str, name: &str) -> Result<TriggerView, Error> {
        let row = self.row(project, name)?;
        self.view(&row).await
    }

    /// By name; those after `after`.
    pub async fn list(&self, project: &str, after: &str, size: u32) -> Result<Page<TriggerView>, Error> {
        let mut rows: Vec<_> = {
            let state = self.read();
            let mine = |row: &&Arc<TriggerRow>| row.project == project && row.spec.name.as_str() > after;
            state.rows.values().filter(mine).cloned().collect()
        };
        rows.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
        let (mut items, mut room) = (Vec::new(), PAGE_BYTES);
        for row in &rows {
            room = room.saturating_sub(serde_json::to_vec(&row.spec).map_or(0, |spec| spec.len()));
            if !items.is_empty() && (room == 0 || items.len() >= size as usize) {
                break;
            }
            items.push(self.view(row).await?);
        }
        let more = items.len() < rows.len();
        let next = items.last().filter(|_| more).map(|last: &TriggerView| last.spec.name.clone());
        Ok(Page { items, next })
    }

    /// Newest first.
    pub async fn history(
        &self,
        project: &str,
        name: &str,
        before: Option<FiringId>,
        limit: u32,
    ) -> Result<Vec<FiringView>, Error> {
        let row = self.row(project, name)?;
        let firings = self.inner.jobs.firings(row.id, before, limit).await?;
        Ok(firings.into_iter().map(firing).collect())
    }

    pub(super) async fn view(&self, row: &TriggerRow) -> Result<TriggerView, Error> {
        let last = self.inner.jobs.firings(row.id, None, 1).await?.pop().map(firing);
        let next_at = match &row.spec.when {
            When::Cron(cron) if row.enabled => clock::next(row, cron),
            _ => None,
        };
        Ok(TriggerView {
            id: row.id,
            project: row.project.clone(),
            spec: row.spec.clone(),
            enabled: row.enabled,
            owner: row.owner.clone(),
            owner_problem: self.owner(row).err(),
            hook_path: row.hook.as_ref().map(|hook| format!("/hooks/{hook}")),
            next_at,
            problem: self.read().problems.get(&row.id).cloned(),
            created_at: row.created_at,
            updated_at: row.updated_at,
            last,
        })
    }

    /// In whose name it fires, as they stand now; else what is wrong and how to mend it.
    pub(super) fn owner(&self, row: &TriggerRow) -> Result<Token, String> {
        let mend = format!("`longshore triggers adopt {}` makes it fire in your name", row.spec.name);
        let owner = &row.owner;
        if let Err(error) = self.inner.identity.project(&row.project) {
            return Err(error.to_string());
        }
        let Some(token) = self.inner.identity.standing(&row.owner_id) else {
            return Err(format!(
                "token `{owner}`, in whose name it fires, was revoked or has expired; {mend}"
            ));
        };
        if token.role < Role::Submitter {
            return Err(format!("token `{owner}`, in whose name it fires, may not submit jobs; {mend}"));
        }
        if token.project.as_ref().is_some_and(|project| *project != row.project) {
            return Err(format!("token `{owner}`, in whose name it fires, is of another project; {mend}"));
        }
        Ok(token)
    }
}

pub(super) fn firing(row: FiringRow) -> FiringView {
    FiringView {
        id: row.id,
        at: row.at,
        kind: row.kind,
        cause: row.cause,
        state: row.state,
        reason: row.reason,
        job: row.job.map(|(_, short)| short),
        depth: row.depth,
    }
}
