//! Deletes what removed jobs leave behind in the stores of bytes and logs.

use crate::{
    blobs::Blobs,
    jobs::Removed,
    log_store::{LogKey, LogStore},
};

/// Best effort, told in the log: the rows are gone, so nothing shows what is left.
pub async fn purge(blobs: &dyn Blobs, logs: &dyn LogStore, removed: &Removed) {
    let keys: Vec<LogKey> = removed.logs.iter().copied().map(LogKey::from).collect();
    if let Err(error) = logs.delete(&keys).await {
        tracing::error!(%error, count = keys.len(), "logs of removed jobs stay behind");
    }
    if removed.keys.is_empty() {
        return;
    }
    if let Err(error) = blobs.delete(&removed.keys).await {
        tracing::error!(%error, count = removed.keys.len(), "objects of removed jobs stay behind");
    }
}
