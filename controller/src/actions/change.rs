//! Changes, inside the writer's transaction: what is there is looked at and the next version written in one step, so
//! that two at once are two versions, one after the other, and a repeat is none.

use super::{ActionView, Archived, Asked, Error};
use crate::store::{self, ActionRequestRow, NewVersion, Tx};
use longshore_common::{action::Action, clock::Timestamp};
use std::sync::Arc;

/// What somebody wants.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) asked: Asked,
    pub(crate) deed: Deed,
}

#[derive(Clone, Debug)]
pub(crate) enum Deed {
    Apply { action: Arc<Action>, if_version: Option<u32> },
    Archive { name: String },
    Restore { name: String, version: u32 },
}

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) struct Changed {
    pub(crate) view: ActionView,
    /// There is a new version.
    pub(crate) changed: bool,
    /// The definition of the version before.
    pub(crate) before: Option<Arc<Action>>,
}

/// The outer error is the database's.
pub(crate) async fn apply(
    order: &Order,
    tx: &mut Tx,
    now: Timestamp,
) -> Result<Result<Changed, Error>, store::Error> {
    let Order { asked, deed } = order;
    if let Some((request_id, digest)) = &asked.request
        && let Some(row) = tx.action_request(&asked.project, request_id).await?
    {
        return again(row, digest, tx).await;
    }
    let name = deed.name();
    let known = tx.action(&asked.project, name, 0).await?;
    let done = match deed {
        Deed::Apply { action, if_version } => match check(known.as_ref(), name, *if_version) {
            Ok(()) => Ok(version(known, asked, action, None, tx, now).await?),
            Err(error) => Err(error),
        },
        Deed::Archive { .. } => match known {
            Some(known) => Ok(archive(known, asked, tx, now).await?),
            None => Err(unknown(asked, name)),
        },
        Deed::Restore { version, .. } => match known {
            Some(known) => restore(known, asked, *version, tx, now).await?,
            None => Err(unknown(asked, name)),
        },
    };
    if let (Ok(changed), Some((request_id, digest))) = (&done, &asked.request) {
        let row = ActionRequestRow {
            project: asked.project.clone(),
            request_id: request_id.clone(),
            digest: digest.clone(),
            name: name.to_owned(),
            version: changed.view.version,
            changed: changed.changed,
        };
        tx.put_action_request(&row, now).await?;
    }
    Ok(done)
}

/// Whether the next version may be made.
pub(super) fn check(known: Option<&ActionView>, name: &str, if_version: Option<u32>) -> Result<(), Error> {
    if let Some(archived) = known.and_then(|known| known.archived.as_ref()) {
        return Err(Error::Archived { name: name.to_owned(), by: archived.by.clone() });
    }
    let latest = known.map_or(0, |known| known.latest);
    match if_version {
        Some(asked) if asked != latest => Err(Error::Moved { name: name.to_owned(), asked, latest }),
        _ => Ok(()),
    }
}

impl Deed {
    fn name(&self) -> &str {
        match self {
            Self::Apply { action, .. } => &action.name,
            Self::Archive { name } | Self::Restore { name, .. } => name,
        }
    }
}

/// The same answer as the first time, whatever came after.
async fn again(
    row: ActionRequestRow,
    digest: &[u8],
    tx: &mut Tx,
) -> Result<Result<Changed, Error>, store::Error> {
    let ActionRequestRow { project, request_id, name, version, changed, .. } = row;
    if row.digest != digest {
        return Ok(Err(Error::RequestReused { request_id, name }));
    }
    let before = match version {
        0 | 1 => None,
        version => tx.action(&project, &name, version - 1).await?.map(|before| before.action),
    };
    let view = tx.action(&project, &name, version).await?;
    let gone = Error::Unknown { project, name, near: None };
    Ok(view.map(|view| Changed { view, changed, before }).ok_or(gone))
}

/// The next version, or what is known if that is the same.
async fn version(
    known: Option<ActionView>,
    asked: &Asked,
    action: &Arc<Action>,
    restored_from: Option<u32>,
    tx: &mut Tx,
    now: Timestamp,
) -> Result<Changed, store::Error> {
    let mut next = next(known, asked, action, now);
    if next.changed {
        next.view.restored_from = restored_from;
        let new = NewVersion {
            project: &asked.project,
            action,
            version: next.view.version,
            created_by: &asked.by,
            restored_from,
        };
        tx.put_action_version(&new, now).await?;
    }
    Ok(next)
}

/// What a version of this definition would be: the same is no new one.
pub(super) fn next(
    known: Option<ActionView>,
    asked: &Asked,
    action: &Arc<Action>,
    now: Timestamp,
) -> Changed {
    let before = known.as_ref().map(|known| Arc::clone(&known.action));
    match known {
        Some(known) if known.action == *action => Changed { view: known, changed: false, before },
        known => {
            let view = ActionView::next(known.as_ref(), asked, Arc::clone(action), now);
            Changed { view, changed: true, before }
        }
    }
}

async fn archive(
    known: ActionView,
    asked: &Asked,
    tx: &mut Tx,
    now: Timestamp,
) -> Result<Changed, store::Error> {
    let before = Some(Arc::clone(&known.action));
    let archived = match known.archived.clone() {
        Some(archived) => archived,
        None => {
            let archived = Archived { at: now, by: asked.by.clone() };
            tx.archive_action(&asked.project, &known.action.name, Some(&archived)).await?;
            archived
        }
    };
    Ok(Changed { view: ActionView { archived: Some(archived), ..known }, changed: false, before })
}

async fn restore(
    known: ActionView,
    asked: &Asked,
    from: u32,
    tx: &mut Tx,
    now: Timestamp,
) -> Result<Result<Changed, Error>, store::Error> {
    let name = known.action.name.clone();
    let from = if from == 0 { known.latest } else { from };
    let Some(old) = tx.action(&asked.project, &name, from).await? else {
        return Ok(Err(Error::NoVersion { name, version: from, latest: known.latest }));
    };
    if known.archived.is_some() {
        tx.archive_action(&asked.project, &name, None).await?;
    }
    let known = ActionView { archived: None, ..known };
    version(Some(known), asked, &old.action, Some(from), tx, now).await.map(Ok)
}

fn unknown(asked: &Asked, name: &str) -> Error {
    Error::Unknown { project: asked.project.clone(), name: name.to_owned(), near: None }
}
