//! Containers that an earlier process of the agent left, asked for once by whoever needs them first. Never changes any.

use super::Tools;
use crate::runtime::{ContainerId, Known};
use longshore_common::{ids::AttemptRef, retry::Backoff};
use std::{sync::Arc, time::Duration};
use tokio::sync::OnceCell;

/// One per process. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Earlier(Arc<OnceCell<Vec<Known>>>);

impl Earlier {
    /// Returns when the engine has answered. Cancel-safe.
    pub(crate) async fn container(&self, tools: &Tools, attempt: AttemptRef) -> Option<ContainerId> {
        of(self.0.get_or_init(|| containers(tools)).await, attempt)
    }
}

pub(crate) fn of(known: &[Known], attempt: AttemptRef) -> Option<ContainerId> {
    known.iter().find(|known| known.attempt == attempt).map(|known| known.container.clone())
}

/// Asks until there is an answer: an attempt whose container is not known would begin anew beside it. A stopping
/// engine also answers with errors of its own.
pub(crate) async fn containers(tools: &Tools) -> Vec<Known> {
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
    loop {
        match tools.runtime.list().await {
            Ok(known) => return known,
            Err(error) if error.is_transient() => {}
            Err(error) => tracing::error!(%error, "containers of the earlier process cannot be listed yet"),
        }
        backoff.wait().await;
    }
}
