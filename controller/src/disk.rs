//! Free space under the data directory. Below the floor nothing new is taken on, so that running jobs can still
//! finish; above it everything resumes by itself.

use longshore_common::{shutdown::Shutdown, tasks};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tonic::Status;

/// Space is looked at this often: filling the floor in less takes a disk of 250 MiB/s doing nothing else.
const EVERY: Duration = Duration::from_secs(1);

/// Clones look at the same disk.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    floor: u64,
    free: AtomicU64,
}

impl Disk {
    /// Looks once now and then goes on looking.
    pub fn watch(path: &Path, floor: u64, shutdown: Shutdown) -> Self {
        let disk = Self(Arc::new(Inner { path: path.to_owned(), floor, free: AtomicU64::new(free(path)) }));
        let watched = disk.clone();
        tasks::spawn("disk", async move {
            loop {
                tokio::select! {
                    () = shutdown.triggered() => return,
                    () = tokio::time::sleep(EVERY) => watched.look(),
                }
            }
        });
        disk
    }

    /// Refuses what would write more.
    pub fn check(&self) -> Result<(), Status> {
        match self.describe() {
            Ok(_) => Ok(()),
            Err(detail) => Err(Status::resource_exhausted(detail)),
        }
    }

    /// How much is free, or that it is too little and what to do.
    pub fn describe(&self) -> Result<String, String> {
        let Inner { path, floor, free } = &*self.0;
        let (free, floor) = (free.load(Ordering::Relaxed) >> 20, floor >> 20);
        let path = path.display();
        if free < floor {
            return Err(format!(
                "the disk under {path} has {free} MiB left, less than the {floor} MiB kept for running jobs: free some space; nothing was lost, running jobs go on"
            ));
        }
        Ok(format!("{free} MiB free under {path}"))
    }

    fn look(&self) {
        let was = self.describe().is_ok();
        self.0.free.store(free(&self.0.path), Ordering::Relaxed);
        match (was, self.describe()) {
            (true, Err(detail)) => tracing::error!("{detail}"),
            (false, Ok(detail)) => tracing::info!("taking on jobs again: {detail}"),
            _ => {}
        }
    }
}

/// A disk that cannot be asked is not called full: the write itself will tell.
fn free(path: &Path) -> u64 {
    fs4::available_space(path).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn below_the_floor_the_path_and_what_to_do_are_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let full = Disk::watch(folder.path(), u64::MAX, Shutdown::new());
        let refusal = full.check().expect_err("no disk is that large");
        assert_eq!(refusal.code(), tonic::Code::ResourceExhausted);
        assert!(refusal.message().contains(&folder.path().display().to_string()), "{refusal}");
        assert!(Disk::watch(folder.path(), 1, Shutdown::new()).check().is_ok());
    }
}
