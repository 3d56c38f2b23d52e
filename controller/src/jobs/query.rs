//! What people ask of jobs and agents. Changes nothing.

use super::{
    Jobs,
    error::{Error, ResolveError},
    token,
    types::{AgentView, AttemptView, Counts, JobFilter, JobView, LiveAttempt, Page, WholeJob},
    view,
};
use crate::store::{ListBounds, ViewRow};
use longshore_common::{
    agent::AgentState,
    clock::Timestamp,
    ids::{JobId, ShortId},
    job::JobState,
    queue::Lane,
};
use std::collections::{BTreeMap, HashMap};

/// Short ids shown when a beginning fits several.
const SHOWN: u32 = 8;
/// Bytes of specs in one page of a list: clients take 4 MiB by default.
pub(super) const LIST_BYTES: usize = 3 << 20;

/// Jobs read at once by who watches.
const FIRST_CHANGES: u32 = 32;
/// Jobs read at a time, each of up to a mebibyte.
const LIST_CHUNK: u32 = 50;

/// Apart from every list.
const LINK: &str = "link to results";

impl Jobs {
    /// UUID, short id, name (the newest of that name), or the unique beginning of a short id. With a project, jobs of
    /// others are not there.
    pub async fn resolve(&self, text: &str, project: Option<&str>) -> Result<JobId, ResolveError> {
        let store = &self.inner.shared.store;
        let failed = |error| ResolveError::Failed(Error::Store(error));
        if let Ok(id) = text.parse::<JobId>() {
            let found = store.views(&[id]).await.map_err(failed)?;
            let found = found.iter().find(|view| project.is_none_or(|project| view.row.project == project));
            return if found.is_none() { Err(ResolveError::NotFound(text.to_owned())) } else { Ok(id) };
        }
        let mut begins = Vec::new();
        if ShortId::is_prefix(text) {
            begins = store.by_short_id(text, project, SHOWN).await.map_err(failed)?;
            if let Some((id, _)) = begins.iter().find(|(_, short)| short.as_str() == text) {
                return Ok(*id);
            }
        }
        if let Some(id) = store.by_name(text, project).await.map_err(failed)? {
            return Ok(id);
        }
        match &begins[..] {
            [] => Err(ResolveError::NotFound(text.to_owned())),
            [(id, _)] => Ok(*id),
            several => {
                let matches = several.iter().map(|(_, short)| short.clone()).collect();
                Err(ResolveError::Ambiguous { text: text.to_owned(), matches })
            }
        }
    }

    /// The attempt that has the job now, and how far it is.
    pub(crate) fn held(&self, job: JobId) -> Option<(LiveAttempt, JobState)> {
        self.inner.shared.live.of_job(job)
    }

    /// A token that nobody else can make.
    pub(crate) fn seal_link(&self, what: &[u8]) -> String {
        token::seal(&self.inner.shared.token_key, LINK, what)
    }

    /// What such a token was made of.
    pub(crate) fn open_link(&self, token: &str) -> Option<Vec<u8>> {
        token::open(&self.inner.shared.token_key, LINK, token).ok().flatten()
    }

    pub async fn get(&self, job: JobId) -> Result<JobView, Error> {
        Ok(view::job(self.row(job).await?))
    }

    /// Everything about one job, as it was at one instant.
    pub async fn whole(&self, job: JobId) -> Result<WholeJob, Error> {
        let found = self.inner.shared.store.whole(job).await?;
        let (row, attempts) = found.ok_or_else(|| gone(job))?;
        let state = row.row.job.state;
        let waiting = if state.is_terminal() || state.is_held() { None } else { Some(self.why(&row).await?) };
        let attempts = attempts.into_iter().map(view::attempt).collect();
        Ok(WholeJob { job: view::job(row), attempts, waiting })
    }

    /// In the order asked; those that are gone are left out.
    pub async fn get_many(&self, jobs: &[JobId]) -> Result<Vec<JobView>, Error> {
        let found = self.inner.shared.store.views(jobs).await?;
        let found: HashMap<_, _> = found.into_iter().map(|row| (row.row.job.id, view::job(row))).collect();
        Ok(jobs.iter().filter_map(|job| found.get(job).cloned()).collect())
    }

    pub async fn attempts(&self, job: JobId) -> Result<Vec<AttemptView>, Error> {
        let rows = self.inner.shared.store.attempts(job).await?;
        Ok(rows.into_iter().map(view::attempt).collect())
    }

    /// Newest first.
    pub async fn list(&self, filter: &JobFilter, size: u32, token: &str) -> Result<Page<JobView>, Error> {
        let shared = &self.inner.shared;
        let list = format!("jobs {filter:?}");
        let mut before = match token::open(&shared.token_key, &list, token)? {
            Some(bytes) => Some(JobId::from_slice(&bytes).map_err(|_| Error::PageToken)?),
            None => None,
        };
        let (mut rows, mut room) = (Vec::new(), LIST_BYTES);
        let more = loop {
            let limit = LIST_CHUNK.min(size.saturating_sub(u32::try_from(rows.len()).unwrap_or(u32::MAX)));
            if limit == 0 {
                break true;
            }
            let chunk = shared.store.list(filter, ListBounds { before, limit }).await?;
            let last = chunk.len() < limit as usize;
            for row in chunk {
                room = room.saturating_sub(row.spec_bytes);
                if room > 0 || rows.is_empty() {
                    before = Some(row.row.job.id);
                    rows.push(row);
                }
            }
            if room == 0 || last {
                break room == 0;
            }
        };
        let next = before.filter(|_| more);
        let next = next.map(|last| token::seal(&shared.token_key, &list, last.as_bytes()));
        Ok(Page { items: rows.into_iter().map(view::job).collect(), next })
    }

    /// Jobs that match, with a revision past `revision`, in order of revision; and whether those are all.
    pub async fn changed_since(
        &self,
        filter: &JobFilter,
        revision: u64,
        limit: u32,
    ) -> Result<(Vec<JobView>, bool), Error> {
        // Few at first: a spec may be a mebibyte, and many watch.
        let mut page = limit.min(FIRST_CHANGES);
        let (mut revision, mut left, mut room) = (revision, limit, LIST_BYTES);
        let mut jobs = Vec::new();
        loop {
            let rows = self.inner.shared.store.changed_since(filter, revision, page).await?;
            let whole = rows.len() < page as usize;
            left = left.saturating_sub(page);
            for row in rows {
                room = room.saturating_sub(row.spec_bytes);
                jobs.push(view::job(row));
            }
            if whole || left == 0 || room == 0 {
                return Ok((jobs, whole));
            }
            revision = jobs.last().map_or(revision, |job: &JobView| job.revision);
            page = left.min(page * 4);
        }
    }

    /// All agents by name.
    pub fn agents(&self) -> Vec<AgentView> {
        let shared = &self.inner.shared;
        let mut views = shared.agents.views(&shared.live, shared.config.disconnect_tolerance);
        let (fleet, now) = (shared.fleet.now(), Timestamp::now());
        views.iter_mut().for_each(|view| fleet.overlay(view, now));
        views
    }

    /// By name or id. Of several with one name, the one seen last.
    pub fn agent(&self, name: &str) -> Option<AgentView> {
        self.agents_called(name).into_iter().max_by_key(|agent| agent.seen_at)
    }

    /// By name or id. An id means that one alone, whatever others call themselves.
    pub fn agents_called(&self, name: &str) -> Vec<AgentView> {
        let mut agents = self.agents();
        if agents.iter().any(|agent| agent.identity.id.to_string() == name) {
            agents.retain(|agent| agent.identity.id.to_string() == name);
        } else {
            agents.retain(|agent| agent.identity.name == name);
        }
        agents
    }

    pub async fn counts(&self) -> Result<Counts, Error> {
        let status = self.inner.shared.store.status().await?;
        let mut counts = Counts {
            waiting: status.waiting,
            queued: status.queued,
            running: status.held,
            oldest_queued: status.oldest_queued,
            ..Counts::default()
        };
        for agent in self.agents() {
            match agent.state {
                AgentState::Online => counts.agents_online += 1,
                AgentState::Disconnected => counts.agents_disconnected += 1,
                AgentState::Lost => counts.agents_lost += 1,
            }
        }
        Ok(counts)
    }

    /// Lanes with queued jobs and how many, counted up to `limit` in each.
    pub async fn queued(&self, limit: u32) -> Result<BTreeMap<Lane, u32>, Error> {
        Ok(self.inner.shared.store.queued(limit).await?)
    }

    /// Queued jobs of one lane, counted up to `limit`.
    pub async fn queued_in(&self, lane: &Lane, limit: u32) -> Result<u32, Error> {
        Ok(self.inner.shared.store.queued_in(lane, limit).await?)
    }

    pub(super) async fn row(&self, job: JobId) -> Result<ViewRow, Error> {
        let mut rows = self.inner.shared.store.views(&[job]).await?;
        rows.pop().ok_or_else(|| gone(job))
    }
}

fn gone(job: JobId) -> Error {
    Error::NotFound { kind: "job", name: job.to_string() }
}
