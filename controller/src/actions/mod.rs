//! The registry of actions: named, versioned definitions of projects. Owns who may change one and into what, and the
//! one way from a name to the spec of a job (`job`), which submits, questions and triggers take alike. What is right
//! about a definition or a run is `common::action`'s to say. Must never make a job: a spec that comes out of here is
//! submitted like any other, and nothing after that knows of actions but the two columns that say where it came from.

mod change;
mod error;
#[cfg(test)]
mod tests;
mod types;

pub(crate) use change::{Changed, Deed, Order, apply};
pub use error::Error;
pub use types::{ActionView, Applied, Archived, ListFilter, Usage};

use crate::jobs::{self, JobFilter, Jobs, Page};
use longshore_common::{
    action::{self, Action, ActionRef, Change, Invocation},
    clock::Timestamp,
    job::{
        JobSpec, JobState,
        sizing::{self, Advice},
    },
    nearest,
};
use std::sync::Arc;

/// Names looked through for the one that was meant.
const NAMES: u32 = 1_000;

/// Ended jobs that advice is taken from, the latest ones.
const EVIDENCE: u32 = 100;

/// Who asks for a change, and whether it was asked before.
#[derive(Clone, Debug)]
pub struct Asked {
    pub project: String,
    /// Chosen by the client, with the digest of what it sent.
    pub request: Option<(String, Vec<u8>)>,
    pub by: String,
}

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Actions {
    jobs: Jobs,
}

impl Actions {
    pub fn new(jobs: &Jobs) -> Self {
        Self { jobs: jobs.clone() }
    }

    /// The job that a run of an action is, and the version that made it: the latest, unless one is named.
    pub async fn job(
        &self,
        project: &str,
        invocation: &Invocation,
        said: &JobSpec,
    ) -> Result<(JobSpec, ActionView), Error> {
        let ActionRef { name, version } = &invocation.action;
        let view = self.get(project, name, version.unwrap_or_default()).await?;
        if let Some(archived) = &view.archived {
            return Err(Error::Archived { name: name.clone(), by: archived.by.clone() });
        }
        let spec = action::resolve(&view.action, view.version, invocation, said).map_err(Error::Invalid)?;
        Ok((spec, view))
    }

    /// The next version, or the latest if that is the same already.
    pub async fn apply(
        &self,
        asked: Asked,
        action: Action,
        if_version: Option<u32>,
    ) -> Result<Applied, Error> {
        let deed = Deed::Apply { action: Arc::new(action), if_version };
        self.change(asked, deed).await.map(Applied::from)
    }

    /// What `apply` would do.
    pub async fn rehearse(
        &self,
        asked: &Asked,
        action: Action,
        if_version: Option<u32>,
    ) -> Result<Applied, Error> {
        let known = self.jobs.action(&asked.project, &action.name, 0).await?;
        change::check(known.as_ref(), &action.name, if_version)?;
        Ok(Applied::from(change::next(known, asked, &Arc::new(action), Timestamp::now())))
    }

    /// No new jobs of it. Doing so again changes nothing.
    pub async fn archive(&self, asked: Asked, name: &str) -> Result<ActionView, Error> {
        Ok(self.change(asked, Deed::Archive { name: name.to_owned() }).await?.view)
    }

    /// Brings it back. With a version other than 0, its definition is the latest one again.
    pub async fn restore(&self, asked: Asked, name: &str, version: u32) -> Result<Applied, Error> {
        self.change(asked, Deed::Restore { name: name.to_owned(), version }).await.map(Applied::from)
    }

    /// Version 0 is the latest.
    pub async fn get(&self, project: &str, name: &str, version: u32) -> Result<ActionView, Error> {
        if let Some(found) = self.jobs.action(project, name, version).await? {
            return Ok(found);
        }
        Err(match self.jobs.action(project, name, 0).await? {
            Some(known) => Error::NoVersion { name: name.to_owned(), version, latest: known.latest },
            None => self.unknown(project, name).await?,
        })
    }

    pub async fn list(&self, filter: &ListFilter, size: u32, token: &str) -> Result<Page<ActionView>, Error> {
        Ok(self.jobs.actions(filter, size, token).await?)
    }

    /// Newest first.
    pub async fn versions(
        &self,
        project: &str,
        name: &str,
        size: u32,
        token: &str,
    ) -> Result<Page<ActionView>, Error> {
        self.get(project, name, 0).await?;
        Ok(self.jobs.action_versions(project, name, size, token).await?)
    }

    /// What differs from one version to another, and which they are. `to` 0 is the latest, `from` 0 the one before.
    pub async fn diff(
        &self,
        project: &str,
        name: &str,
        (from, to): (u32, u32),
    ) -> Result<(u32, u32, Vec<Change>), Error> {
        let new = self.get(project, name, to).await?;
        let from = if from == 0 { new.version.saturating_sub(1) } else { from };
        let old = match from {
            0 => None,
            from => Some(self.get(project, name, from).await?.action),
        };
        Ok((from, new.version, action::diff(old.as_deref(), &new.action)))
    }

    /// What to ask for next time, and the version whose requests are judged.
    pub async fn advise(
        &self,
        project: &str,
        name: &str,
        version: u32,
    ) -> Result<(ActionView, Advice), Error> {
        let view = self.get(project, name, version).await?;
        let filter = JobFilter {
            states: JobState::ended().collect(),
            project: Some(project.to_owned()),
            action: Some(name.to_owned()),
            action_version: (version > 0).then_some(version),
            ..JobFilter::default()
        };
        let mut runs = Vec::new();
        for job in self.jobs.list(&filter, EVIDENCE, "").await?.items {
            let attempts = self.jobs.attempts(job.id).await?;
            runs.extend(jobs::runs(&attempts, &job.spec.resources));
        }
        let advice = sizing::advise(&view.action.job.resources, &runs);
        Ok((view, advice))
    }

    async fn change(&self, asked: Asked, deed: Deed) -> Result<Changed, Error> {
        let project = asked.project.clone();
        match self.jobs.change_action(Order { asked, deed }).await? {
            Err(Error::Unknown { name, .. }) => Err(self.unknown(&project, &name).await?),
            answer => answer,
        }
    }

    async fn unknown(&self, project: &str, name: &str) -> Result<Error, Error> {
        let known = self.jobs.action_names(project, NAMES).await?;
        let near = nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
        Ok(Error::Unknown { project: project.to_owned(), name: name.to_owned(), near })
    }
}
