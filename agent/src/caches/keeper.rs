//! Measures caches and removes those that nobody uses while they are too large, too many, or the disk is short. While
//! the disk is nearly full it ends whoever fills a cache fastest.

use super::{Caches, Key, remove};
use crate::{
    attempt::{Cause, Held},
    disk,
    machine::Machine,
};
use longshore_common::{ids::AttemptRef, units::ByteSize};
use std::time::Duration;
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};

/// Between two looks at caches in use: at 500 MB/s one grows by a gigabyte.
const LOOK: Duration = Duration::from_secs(2);
/// A walk over millions of files must not keep the disk busy: at most a tenth of the time is spent on it.
const REST: u32 = 9;

/// Runs until it is dropped.
pub(crate) async fn keep(caches: &Caches, machine: &Machine, held: &Held) {
    let own = caches.clone();
    drop(spawn_blocking(move || own.empty_trash()).await);
    loop {
        let began = Instant::now();
        let fastest = caches.measure().await;
        let disk = machine.data_disk();
        let bounds = caches.bounds(disk.total_bytes);
        caches.tell_users(held, bounds.1);
        if let Some(growth) = fastest
            && machine.is_data_disk_full()
        {
            end_users(held, &growth);
        }
        caches.shrink(machine, bounds).await;
        sleep(LOOK.max(began.elapsed() * REST)).await;
    }
}

/// The cache in use that grew most since the last look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Growth {
    pub(super) key: Key,
    pub(super) by: u64,
    pub(super) users: Vec<AttemptRef>,
}

fn end_users(held: &Held, Growth { key, by, users }: &Growth) {
    let detail = format!(
        "the node's disk is nearly full, and the cache `{}` grew by {} last: it goes when no job uses it",
        key.name,
        ByteSize(*by).rounded()
    );
    tracing::warn!(
        project = key.project,
        cache = key.name,
        by,
        "ending those who fill the disk through a cache"
    );
    for attempt in users {
        held.stop(attempt, Cause::NoRoom(detail.clone()));
    }
}

impl Caches {
    /// Those in use, and those that were since the last look.
    pub(super) async fn measure(&self) -> Option<Growth> {
        let due = |entry: &super::Entry| entry.is_made && (entry.is_stale || !entry.users.is_empty());
        let keys: Vec<_> =
            self.lock().iter().filter(|(_, entry)| due(entry)).map(|(key, _)| key.clone()).collect();
        let mut fastest: Option<Growth> = None;
        for key in keys {
            let data = self.data(&key);
            let bytes = match spawn_blocking(move || disk::bytes(&[data])).await {
                Ok(Ok(bytes)) => bytes,
                // Whoever keeps it from being measured has no bound.
                Ok(Err(error)) if error.is_evasion() => u64::MAX,
                Ok(Err(error)) => {
                    tracing::warn!(%error, project = key.project, cache = key.name, "a cache is not measured");
                    continue;
                }
                Err(error) => {
                    tracing::error!(%error, "measuring a cache failed");
                    continue;
                }
            };
            let mut known = self.lock();
            let Some(entry) = known.get_mut(&key) else { continue };
            let by = bytes.saturating_sub(entry.bytes);
            (entry.bytes, entry.is_stale) = (bytes, false);
            let users: Vec<_> = entry.users.iter().copied().collect();
            drop(known);
            if by > 0 && !users.is_empty() && fastest.as_ref().is_none_or(|growth| growth.by < by) {
                fastest = Some(Growth { key, by, users });
            }
        }
        fastest
    }

    /// Whoever uses one that is too large hears once what becomes of it.
    fn tell_users(&self, held: &Held, each: u64) {
        for (key, entry) in self.lock().iter_mut() {
            let is_large = entry.bytes > each && !entry.users.is_empty();
            if is_large && !entry.is_told {
                let (has, may) = (ByteSize(entry.bytes).rounded(), ByteSize(each).rounded());
                let name = &key.name;
                let line =
                    format!("cache    {name} has {has} and may have {may} here: it goes after this job");
                for attempt in &entry.users {
                    held.tell(attempt, &line);
                }
            }
            entry.is_told = is_large;
        }
    }

    /// Removes what is to go.
    pub(super) async fn shrink(&self, machine: &Machine, bounds: (u64, u64)) {
        loop {
            let is_short = machine.lacks_room_at(self.0.root.clone(), self.0.config.room_bytes).await;
            let own = self.clone();
            let next = spawn_blocking(move || {
                let next = own.set_aside(bounds, is_short)?;
                if let Some((_, _, aside)) = &next {
                    remove(aside);
                }
                Ok::<_, std::io::Error>(next)
            });
            match next.await {
                Ok(Ok(Some((key, bytes, _)))) => {
                    tracing::info!(
                        project = key.project,
                        cache = key.name,
                        bytes,
                        is_short,
                        "removed a cache"
                    );
                }
                Ok(Ok(None)) => return,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "a cache cannot be removed");
                    return;
                }
                Err(error) => {
                    tracing::error!(%error, "removing a cache failed");
                    return;
                }
            }
        }
    }
}
