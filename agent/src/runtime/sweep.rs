//! Clears away what nobody holds any more: ended containers of this very cluster and agent, with their scratch, and
//! folders of attempts that nothing names. Never touches another's, nor a container that runs: that is left for a
//! person to look at.

use super::{ContainerId, Error, Known, Runtime};
use longshore_common::ids::{AttemptRef, ClusterId};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::Instant;

/// A container is made before whoever holds it can say so.
const GRACE: Duration = Duration::from_secs(120);

/// Remembers since when a container is nobody's.
#[derive(Debug)]
pub struct Sweeper {
    grace: Duration,
    since: HashMap<ContainerId, Instant>,
    /// Strangers, and those that cannot be removed, that were told of.
    told: HashSet<ContainerId>,
}

impl Default for Sweeper {
    fn default() -> Self {
        Self::after(GRACE)
    }
}

/// What one sweep did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub removed: Vec<AttemptRef>,
    /// They run, and nobody holds them. Told once.
    pub strangers: Vec<AttemptRef>,
}

impl Sweeper {
    /// Removes what was nobody's for this long.
    pub fn after(grace: Duration) -> Self {
        Self { grace, since: HashMap::new(), told: HashSet::new() }
    }

    /// To be called now and then. `held` is asked for after the containers, so that none is missed in between;
    /// `None` is "cannot tell", and then nothing goes.
    pub async fn sweep(
        &mut self,
        runtime: &dyn Runtime,
        cluster: ClusterId,
        held: impl FnOnce() -> Option<BTreeSet<AttemptRef>> + Send,
    ) -> Result<Swept, Error> {
        let known = runtime.list().await?;
        let Some(held) = held() else { return Ok(Swept::default()) };
        let nobodys: Vec<_> = known
            .into_iter()
            .filter(|known| known.cluster == cluster && !held.contains(&known.attempt))
            .collect();
        self.since.retain(|container, _| nobodys.iter().any(|known| known.container == *container));
        self.told.retain(|container| self.since.contains_key(container));
        let mut swept = Swept::default();
        for Known { container, attempt, running, .. } in nobodys {
            let since = *self.since.entry(container.clone()).or_insert_with(Instant::now);
            if since.elapsed() < self.grace {
                continue;
            }
            if running {
                if self.told.insert(container) {
                    swept.strangers.push(attempt);
                }
            } else {
                match runtime.remove(&container).await {
                    Ok(()) => {
                        self.since.remove(&container);
                        swept.removed.push(attempt);
                    }
                    // Tried again with the next sweep; the others go meanwhile.
                    Err(error) if self.told.insert(container.clone()) => {
                        tracing::warn!(%error, attempt.id = %attempt, container.id = %container.0, "a container nobody holds cannot be removed");
                    }
                    Err(error) => {
                        tracing::debug!(%error, container.id = %container.0, "it still cannot be removed");
                    }
                }
            }
        }
        Ok(swept)
    }
}

/// Remembers since when a folder is nobody's.
#[derive(Debug, Default)]
pub struct Folders(HashMap<PathBuf, Instant>);

impl Folders {
    /// Those in `dir` that were not `named` for the grace: theirs are no journal entry, no attempt and no container.
    pub fn due(&mut self, dir: &Path, named: &BTreeSet<PathBuf>) -> io::Result<Vec<PathBuf>> {
        let mut found = BTreeSet::new();
        for entry in fs::read_dir(dir)? {
            found.insert(entry?.path());
        }
        self.0.retain(|folder, _| found.contains(folder) && !named.contains(folder));
        let nobodys = found.into_iter().filter(|folder| !named.contains(folder));
        let due =
            |folder: &PathBuf| self.0.entry(folder.clone()).or_insert_with(Instant::now).elapsed() >= GRACE;
        Ok(nobodys.filter(due).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_folders_that_nothing_names_are_due_and_only_after_the_grace() {
        let home = tempfile::tempdir().expect("a folder");
        let folder = |name: &str| {
            let path = home.path().join(name);
            fs::create_dir_all(&path).expect("made");
            path
        };
        let (left, mine) = (folder("k3m9q2xw.1"), folder("p7d2c4vb.2"));
        let named = BTreeSet::from([mine]);
        let mut folders = Folders::default();
        assert!(folders.due(home.path(), &named).expect("read").is_empty());
        tokio::time::advance(GRACE).await;
        let young = folder("w4n8z5ht.1");
        assert_eq!(folders.due(home.path(), &named).expect("read"), [left]);
        assert!(young.exists());
    }
    use crate::runtime::{contract::sample_spec, fake::Fake};

    /// A container that ended (or runs on) in a fake runtime.
    async fn container(fake: &Fake, cluster: ClusterId, run: &str) -> AttemptRef {
        let mut spec = sample_spec();
        spec.cluster = cluster;
        spec.env.insert("FAKE_RUN".to_owned(), run.to_owned());
        let id = fake.create(&spec).await.expect("create");
        drop(fake.start(&id).await.expect("start"));
        spec.attempt
    }

    #[tokio::test(start_paused = true)]
    async fn a_container_that_cannot_be_removed_does_not_keep_the_others() {
        let (fake, cluster) = (Fake::bare(), ClusterId::new());
        let mut ended = BTreeSet::new();
        for _ in 0..4 {
            ended.insert(container(&fake, cluster, "0s").await);
        }
        let stuck = fake.list().await.expect("listed").remove(0);
        fake.never_remove(&stuck.container);
        let mut sweeper = Sweeper::after(Duration::ZERO);
        let swept = sweeper.sweep(&fake, cluster, || Some(BTreeSet::new())).await.expect("swept");
        ended.remove(&stuck.attempt);
        assert_eq!(BTreeSet::from_iter(swept.removed), ended);
        let left = fake.list().await.expect("listed");
        assert_eq!(left.iter().map(|known| known.attempt).collect::<Vec<_>>(), [stuck.attempt]);
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_ended_and_is_nobodys_goes_and_only_after_the_grace() {
        let (fake, cluster) = (Fake::bare(), ClusterId::new());
        let ended = container(&fake, cluster, "0s").await;
        let held = container(&fake, cluster, "0s").await;
        let running = container(&fake, cluster, "forever").await;
        let others = container(&fake, ClusterId::new(), "0s").await;
        let mut sweeper = Sweeper::default();
        let hold = || Some(BTreeSet::from([held]));
        assert_eq!(sweeper.sweep(&fake, cluster, hold).await.expect("swept"), Swept::default());
        tokio::time::advance(GRACE).await;
        let swept = sweeper.sweep(&fake, cluster, hold).await.expect("swept");
        assert_eq!(swept, Swept { removed: vec![ended], strangers: vec![running] });
        assert_eq!(sweeper.sweep(&fake, cluster, hold).await.expect("swept"), Swept::default(), "told once");
        let left: BTreeSet<_> =
            fake.list().await.expect("listed").iter().map(|known| known.attempt).collect();
        assert_eq!(left, BTreeSet::from([held, running, others]));
    }
}
