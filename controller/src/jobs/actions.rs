//! Actions, as far as they are rows: what they mean is `actions`' to know.

use super::{Jobs, Page, command::Command, error::Error, query::LIST_BYTES, token};
use crate::actions::{self, ActionView, Changed, ListFilter, Order};

impl Jobs {
    /// Version 0 is the latest.
    pub(crate) async fn action(
        &self,
        project: &str,
        name: &str,
        version: u32,
    ) -> Result<Option<ActionView>, Error> {
        Ok(self.inner.shared.store.action(project, name, version).await?)
    }

    pub(crate) async fn action_names(&self, project: &str, limit: u32) -> Result<Vec<String>, Error> {
        Ok(self.inner.shared.store.action_names(project, limit).await?)
    }

    /// The latest version of each, by name.
    pub(crate) async fn actions(
        &self,
        filter: &ListFilter,
        size: u32,
        token: &str,
    ) -> Result<Page<ActionView>, Error> {
        let shared = &self.inner.shared;
        let list = format!("actions {filter:?}");
        let after = token::open(&shared.token_key, &list, token)?.unwrap_or_default();
        let after = String::from_utf8(after).map_err(|_| Error::PageToken)?;
        let (items, more) = shared.store.actions(filter, &after, (size, LIST_BYTES)).await?;
        let last = items.last().filter(|_| more).map(|last| last.action.name.as_bytes());
        let next = last.map(|last| token::seal(&shared.token_key, &list, last));
        Ok(Page { items, next })
    }

    /// Newest first.
    pub(crate) async fn action_versions(
        &self,
        project: &str,
        name: &str,
        size: u32,
        token: &str,
    ) -> Result<Page<ActionView>, Error> {
        let shared = &self.inner.shared;
        let list = format!("versions of {project} {name}");
        let before = match token::open(&shared.token_key, &list, token)? {
            Some(bytes) => u32::from_le_bytes(bytes.try_into().map_err(|_| Error::PageToken)?),
            None => u32::MAX,
        };
        let (items, more) = shared.store.action_versions(project, name, before, (size, LIST_BYTES)).await?;
        let last = items.last().filter(|_| more).map(|last| last.version.to_le_bytes());
        let next = last.map(|last| token::seal(&shared.token_key, &list, &last));
        Ok(Page { items, next })
    }

    pub(crate) async fn change_action(&self, order: Order) -> Result<Result<Changed, actions::Error>, Error> {
        self.call(Command::Action, order).await
    }
}
