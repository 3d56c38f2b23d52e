//! The tenants, at hand in memory and true in the database: submit and claim ask for their settings.

use super::{Jobs, chores::Chore, error::Error, types::SubmitError};
use crate::{
    identity::{DEFAULT_PROJECT, Project, Quotas},
    placement::Tenants,
    store::{self, Holdings},
};
use longshore_common::units::ByteSize;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::time::Instant;

/// Bytes that a project keeps are counted this often at most.
const COUNTED: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Projects {
    known: RwLock<BTreeMap<String, Arc<Project>>>,
    /// Bytes of artifacts, and when they were counted.
    stored: RwLock<HashMap<String, (Instant, u64)>>,
}

/// How long ended jobs are kept.
#[derive(Debug)]
pub(super) struct Retention {
    usual: Duration,
    own: HashMap<String, Duration>,
}

impl Retention {
    pub(super) fn of(&self, project: &str) -> Duration {
        self.own.get(project).copied().unwrap_or(self.usual)
    }
}

/// How many jobs bounded projects may still queue.
#[derive(Debug, Default)]
pub(super) struct Queues(HashMap<String, (u64, u64)>);

impl Queues {
    /// So many more jobs of this project.
    pub(super) fn enter(&mut self, project: &str, count: u64) -> Result<(), SubmitError> {
        match self.0.get_mut(project) {
            Some((bound, queued)) if count > 1 && queued.saturating_add(count) > *bound => {
                let what = format!(
                    "has {queued} jobs that wait, and may have {bound}; {count} more are too many: split the batch, \
                     or try again when some have begun"
                );
                Err(SubmitError::OverQuota { project: project.to_owned(), what })
            }
            Some((bound, queued)) if *queued >= *bound => Err(SubmitError::OverQuota {
                project: project.to_owned(),
                what: format!(
                    "has {queued} jobs that wait, and may have {bound}; try again when some have begun"
                ),
            }),
            Some((_, queued)) => {
                *queued += count;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Projects {
    /// The usual one is always there.
    pub(super) fn new(stored: Vec<Project>) -> Self {
        let projects = std::iter::once(Project::new(DEFAULT_PROJECT)).chain(stored);
        let known = projects.map(|project| (project.name.clone(), Arc::new(project))).collect();
        Self { known: RwLock::new(known), stored: RwLock::default() }
    }

    pub(super) fn get(&self, name: &str) -> Option<Arc<Project>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// There is the usual one only.
    pub(super) fn is_alone(&self) -> bool {
        self.known.read().unwrap_or_else(PoisonError::into_inner).len() <= 1
    }

    /// By name.
    pub(super) fn weights(&self) -> HashMap<String, u32> {
        let projects = self.known.read().unwrap_or_else(PoisonError::into_inner);
        projects.values().map(|project| (project.name.clone(), project.settings.weight.into())).collect()
    }

    /// Of the projects for which it answers something.
    fn quotas<T>(&self, of: impl Fn(&str, &Quotas) -> Option<T>) -> Vec<(String, T)> {
        let projects = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let one = |project: &Arc<Project>| {
            Some((project.name.clone(), of(&project.name, &project.settings.quotas)?))
        };
        projects.values().filter_map(one).collect()
    }

    /// Those that are bounded, with what they hold. Costs nothing where none is.
    pub(super) async fn tenants(&self, store: &mut impl Holdings) -> Result<Tenants, store::Error> {
        let bounded = |quotas: &Quotas| {
            [quotas.running, quotas.cpu_millis, quotas.memory, quotas.gpus].iter().any(Option::is_some)
        };
        let quotas = self.quotas(|_, quotas| bounded(quotas).then_some(*quotas));
        if quotas.is_empty() {
            return Ok(Tenants::default());
        }
        let held = store.held().await?;
        Ok(Tenants::new(quotas.into_iter().map(|(name, quotas)| {
            let held = held.get(&name).copied().unwrap_or_default();
            (name, quotas, held)
        })))
    }

    /// Of those that are asked for and bounded.
    pub(super) async fn queues(
        &self,
        asked: HashSet<&str>,
        store: &mut impl Holdings,
    ) -> Result<Queues, store::Error> {
        let bounds = self.quotas(|name, quotas| quotas.queued.filter(|_| asked.contains(name)));
        if bounds.is_empty() {
            return Ok(Queues::default());
        }
        let at_rest = store.at_rest().await?;
        let queue = |(name, bound): (String, u64)| {
            let queued = at_rest.get(&name).copied().unwrap_or_default();
            (name, (bound, queued))
        };
        Ok(Queues(bounds.into_iter().map(queue).collect()))
    }

    pub(super) fn retention(&self, usual: Duration) -> Retention {
        let projects = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let own =
            projects.values().filter_map(|project| Some((project.name.clone(), project.settings.retention?)));
        Retention { usual, own: own.collect() }
    }
}

impl Jobs {
    /// Why the project may not begin anything that would keep more.
    pub(super) async fn is_full(&self, name: &str) -> Result<Option<SubmitError>, Error> {
        let projects = &self.inner.shared.projects;
        let bound = projects.get(name).and_then(|project| project.settings.quotas.storage);
        let Some(bound) = bound else { return Ok(None) };
        let stored = self.stored(name).await?;
        let what = format!(
            "keeps {} of its {} of artifacts and inputs; remove some jobs",
            ByteSize(stored).rounded(),
            ByteSize(bound).rounded()
        );
        Ok((stored >= bound).then(|| SubmitError::OverQuota { project: name.to_owned(), what }))
    }

    /// Refuses what would take the project over its storage.
    pub async fn check_storage(&self, name: &str, more: u64) -> Result<(), Error> {
        let project = self.inner.shared.projects.get(name);
        let Some(bound) = project.and_then(|project| project.settings.quotas.storage) else { return Ok(()) };
        let stored = self.stored(name).await?;
        if stored.saturating_add(more) <= bound {
            return Ok(());
        }
        Err(Error::Storage {
            project: name.to_owned(),
            stored: ByteSize(stored).rounded(),
            more: ByteSize(more).rounded(),
            bound: ByteSize(bound).rounded(),
        })
    }

    /// Bytes of artifacts and inputs that the project keeps, as of a moment ago.
    async fn stored(&self, name: &str) -> Result<u64, Error> {
        let stored = &self.inner.shared.projects.stored;
        let known = stored.read().unwrap_or_else(PoisonError::into_inner).get(name).copied();
        if let Some((_, bytes)) = known.filter(|(at, _)| at.elapsed() < COUNTED) {
            return Ok(bytes);
        }
        let bytes = self.inner.shared.store.stored_bytes(name).await?;
        let counted = (Instant::now(), bytes);
        stored.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), counted);
        Ok(bytes)
    }

    /// What the project's unfinished jobs hold and its ended ones keep.
    pub async fn usage(&self, name: &str) -> Result<Quotas, Error> {
        let mut store = &self.inner.shared.store;
        let held = store.held().await?.get(name).copied().unwrap_or_default();
        let queued = store.at_rest().await?.get(name).copied().unwrap_or_default();
        Ok(Quotas {
            queued: Some(queued),
            running: Some(held.running),
            cpu_millis: Some(held.cpu_millis),
            memory: Some(held.memory),
            gpus: Some(held.gpus),
            storage: Some(self.stored(name).await?),
        })
    }

    pub fn project(&self, name: &str) -> Option<Arc<Project>> {
        self.inner.shared.projects.get(name)
    }

    /// By name.
    pub fn projects(&self) -> Vec<Arc<Project>> {
        let projects = self.inner.shared.projects.known.read().unwrap_or_else(PoisonError::into_inner);
        projects.values().cloned().collect()
    }

    /// Makes it, or changes its settings.
    pub async fn put_project(&self, project: Project) -> Result<Arc<Project>, Error> {
        self.chore(Chore::Project(Box::new(project.clone()))).await?;
        let project = Arc::new(project);
        let mut projects = self.inner.shared.projects.known.write().unwrap_or_else(PoisonError::into_inner);
        projects.insert(project.name.clone(), Arc::clone(&project));
        Ok(project)
    }
}
