//! Actions as they are kept and shown. Plain data.

use super::{Asked, Changed};
use longshore_common::{
    action::{self, Action, Change},
    clock::Timestamp,
};
use std::{collections::BTreeMap, sync::Arc};

/// One version of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionView {
    pub project: String,
    pub action: Arc<Action>,
    pub version: u32,
    /// Of this name.
    pub latest: u32,
    pub created_at: Timestamp,
    pub created_by: String,
    /// The version whose definition this one repeats.
    pub restored_from: Option<u32>,
    /// The action as a whole.
    pub archived: Option<Archived>,
    /// Of this version; in lists of all its versions.
    pub usage: Usage,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archived {
    pub at: Timestamp,
    pub by: String,
}

/// Jobs that were made of it, removed ones too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub jobs: u64,
    pub succeeded: u64,
    /// Or timed out.
    pub failed: u64,
    pub cancelled: u64,
    /// When the last one was made.
    pub used_at: Option<Timestamp>,
}

/// What came of a change.
#[derive(Clone, Debug)]
pub struct Applied {
    pub view: ActionView,
    /// There is a new version.
    pub changed: bool,
    /// Against the version before; empty if nothing changed.
    pub changes: Vec<Change>,
}

/// Which actions to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListFilter {
    pub project: String,
    /// Archived ones too.
    pub archived: bool,
    pub labels: BTreeMap<String, String>,
}

impl ActionView {
    /// The version that comes after what is known.
    pub(super) fn next(known: Option<&Self>, asked: &Asked, action: Arc<Action>, now: Timestamp) -> Self {
        let version = known.map_or(0, |known| known.latest) + 1;
        Self {
            project: asked.project.clone(),
            action,
            version,
            latest: version,
            created_at: now,
            created_by: asked.by.clone(),
            restored_from: None,
            archived: None,
            usage: Usage::default(),
        }
    }
}

impl From<Changed> for Applied {
    fn from(Changed { view, changed, before }: Changed) -> Self {
        let changes = if changed { action::diff(before.as_deref(), &view.action) } else { Vec::new() };
        Self { view, changed, changes }
    }
}
