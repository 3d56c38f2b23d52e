//! The tenants, at hand in memory and true in the database: submit and claim ask for their settings.

use super::{Jobs, chores::Chore, error::Error};
use crate::identity::{DEFAULT_PROJECT, Project, Settings};
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

#[derive(Debug, Default)]
pub(super) struct Projects(RwLock<BTreeMap<String, Arc<Project>>>);

impl Projects {
    /// The usual one is always there.
    pub(super) fn new(stored: Vec<Project>) -> Self {
        let projects = std::iter::once(Project::new(DEFAULT_PROJECT)).chain(stored);
        Self(RwLock::new(projects.map(|project| (project.name.clone(), Arc::new(project))).collect()))
    }

    fn get(&self, name: &str) -> Option<Arc<Project>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Of a project that nobody made: the defaults.
    pub(super) fn settings(&self, name: &str) -> Settings {
        self.get(name).map(|project| project.settings.clone()).unwrap_or_default()
    }
}

impl Jobs {
    pub fn project(&self, name: &str) -> Option<Arc<Project>> {
        self.inner.shared.projects.get(name)
    }

    /// By name.
    pub fn projects(&self) -> Vec<Arc<Project>> {
        let projects = self.inner.shared.projects.0.read().unwrap_or_else(PoisonError::into_inner);
        projects.values().cloned().collect()
    }

    /// Makes it, or changes its settings.
    pub async fn put_project(&self, project: Project) -> Result<Arc<Project>, Error> {
        self.chore(Chore::Project(Box::new(project.clone()))).await?;
        let project = Arc::new(project);
        let mut projects = self.inner.shared.projects.0.write().unwrap_or_else(PoisonError::into_inner);
        projects.insert(project.name.clone(), Arc::clone(&project));
        Ok(project)
    }
}
