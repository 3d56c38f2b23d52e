//! Files of one attempt to the store, each tried again until the deadline. Asks the controller for addresses; never
//! names a file to the store.

use super::{
    collect::{Found, shown},
    folder::Folder,
    put::{Error as PutError, Putter, Stored},
    source::Source,
};
use crate::{
    link::{CompletedUpload, Controller, Error as LinkError, WantedUpload},
    runtime::Progress,
};
use longshore_common::{
    artifact::{Artifact, ManifestEntry, UploadTarget},
    ids::AttemptRef,
    retry::Backoff,
};
use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// A file that changes under the upload this often is not stored: nothing should be running any more.
const MOST_CHANGES: u32 = 5;

/// For listing what was stored before the deadline passed.
const LAST_PAGE: Duration = Duration::from_secs(10);

/// Why the whole collection ends here.
#[derive(Clone, Debug)]
pub(super) enum Stop {
    Fenced(String),
    Failed(String),
}

/// What became of one file.
#[derive(Debug)]
pub(super) enum Uploaded {
    Stored(ManifestEntry),
    /// Not there any more.
    Gone(String),
    /// There, and it cannot be read.
    Unreadable(String),
}

/// A file and where to put it.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) ordinal: u64,
    pub(super) found: Found,
    pub(super) target: UploadTarget,
}

/// Where one file goes, for as long as the store takes it there and the file keeps its size.
struct Addresses {
    size: u64,
    target: UploadTarget,
    refused: bool,
}

#[derive(Debug)]
pub(super) struct Upload {
    pub(super) controller: Arc<dyn Controller>,
    pub(super) putter: Putter,
    pub(super) attempt: AttemptRef,
    pub(super) folder: Arc<Folder>,
    pub(super) deadline: Instant,
    pub(super) progress: Progress,
    told: AtomicBool,
}

impl Upload {
    pub(super) fn new(
        (controller, putter): (Arc<dyn Controller>, Putter),
        attempt: AttemptRef,
        folder: Arc<Folder>,
        deadline: Instant,
        progress: Progress,
    ) -> Self {
        Self { controller, putter, attempt, folder, deadline, progress, told: AtomicBool::new(false) }
    }

    /// Addresses for files whose ordinals count up from `first`.
    pub(super) async fn open(&self, first: u64, files: Vec<Found>) -> Result<Vec<Opened>, Stop> {
        let wanted =
            |(ordinal, file): (u64, &Found)| WantedUpload { ordinal, size: file.size, given_up: None };
        let targets = self.ask_targets((first..).zip(&files).map(wanted).collect()).await?;
        let opened = (first..).zip(files).zip(targets);
        Ok(opened.map(|((ordinal, found), target)| Opened { ordinal, found, target }).collect())
    }

    /// Stores one file.
    pub(super) async fn store(&self, opened: Opened) -> Result<Uploaded, Stop> {
        let Opened { ordinal, found, target } = opened;
        let name = shown(&found.path);
        let mut addresses = Addresses { size: found.size, target, refused: false };
        let mut backoff = patience();
        let mut changes = 0;
        loop {
            let source = match self.open_source(&found).await {
                Ok(Some(source)) => source,
                Ok(None) => return Ok(Uploaded::Gone(format!("{name}: gone before it was stored"))),
                Err(err) => return Ok(Uploaded::Unreadable(format!("{name} cannot be read: {err}"))),
            };
            if addresses.refused || addresses.size != source.size {
                addresses = self.ask_again(ordinal, source.size, addresses).await?;
            }
            let detail = match self.before_deadline(self.putter.put(&source, &addresses.target)).await {
                None => return Err(self.late(&format!("{name} was on its way"))),
                Some(Ok(stored)) => match self.complete(ordinal, &addresses.target, &stored).await? {
                    Ok(()) => {
                        return Ok(Uploaded::Stored(entry(ordinal, found.path, &source, stored.sha256)));
                    }
                    Err(refusal) => {
                        addresses.refused = true;
                        refusal
                    }
                },
                Some(Err(PutError::Read(err))) => {
                    return Ok(Uploaded::Unreadable(format!("{name} cannot be read: {err}")));
                }
                Some(Err(PutError::Changed)) => {
                    changes += 1;
                    if changes == MOST_CHANGES {
                        return Ok(Uploaded::Unreadable(format!("{name} does not stop changing")));
                    }
                    continue;
                }
                Some(Err(err)) => {
                    addresses.refused = matches!(err, PutError::Refused(_));
                    err.to_string()
                }
            };
            self.wait(&mut backoff, &format!("{name}: {detail}")).await?;
        }
    }

    pub(super) async fn put_manifest(&self, page: u32, entries: Vec<ManifestEntry>) -> Result<(), Stop> {
        // What is already stored is listed even when the deadline has passed.
        let deadline = self.deadline.max(Instant::now() + LAST_PAGE);
        self.ask_until(deadline, || self.controller.put_manifest(self.attempt, page, entries.clone())).await
    }

    async fn open_source(&self, found: &Found) -> std::io::Result<Option<Source>> {
        let (folder, path) = (Arc::clone(&self.folder), found.path.clone());
        tokio::task::spawn_blocking(move || Source::open(&folder, &path))
            .await
            .unwrap_or_else(|err| Err(std::io::Error::other(err)))
    }

    /// New addresses; the parts behind the old ones go, so that tries do not fill the store.
    async fn ask_again(&self, ordinal: u64, size: u64, old: Addresses) -> Result<Addresses, Stop> {
        let wanted = WantedUpload { ordinal, size, given_up: old.target.upload_id };
        let target = self.ask_targets(vec![wanted]).await?.remove(0);
        Ok(Addresses { size, target, refused: false })
    }

    async fn ask_targets(&self, files: Vec<WantedUpload>) -> Result<Vec<UploadTarget>, Stop> {
        let count = files.len();
        let targets = self.ask(|| self.controller.open_uploads(self.attempt, files.clone())).await?;
        if targets.len() == count {
            Ok(targets)
        } else {
            Err(Stop::Failed(format!("the controller gave {} addresses for {count} files", targets.len())))
        }
    }

    /// The inner error is one that a new upload of the file may mend.
    async fn complete(
        &self,
        ordinal: u64,
        target: &UploadTarget,
        stored: &Stored,
    ) -> Result<Result<(), String>, Stop> {
        let Some(upload_id) = target.upload_id.clone() else { return Ok(Ok(())) };
        let upload = CompletedUpload { ordinal, upload_id, etags: stored.etags.clone() };
        match self.ask(|| self.controller.complete_uploads(self.attempt, vec![upload.clone()])).await {
            Ok(()) => Ok(Ok(())),
            Err(Stop::Failed(detail)) if Instant::now() < self.deadline => Ok(Err(detail)),
            Err(stop) => Err(stop),
        }
    }

    /// Asks the controller until it answers or the deadline passes.
    async fn ask<T, F>(&self, call: impl FnMut() -> F) -> Result<T, Stop>
    where
        F: Future<Output = Result<T, LinkError>>,
    {
        self.ask_until(self.deadline, call).await
    }

    async fn ask_until<T, F>(&self, deadline: Instant, mut call: impl FnMut() -> F) -> Result<T, Stop>
    where
        F: Future<Output = Result<T, LinkError>>,
    {
        let mut backoff = patience();
        loop {
            match tokio::time::timeout_at(deadline, call()).await {
                Err(_) => return Err(self.late("the controller did not answer")),
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(LinkError::Fenced(detail))) => return Err(Stop::Fenced(detail)),
                Ok(Err(err @ LinkError::Refused(_))) => return Err(Stop::Failed(err.to_string())),
                Ok(Err(err @ (LinkError::Unreachable(_) | LinkError::Denied(_)))) => {
                    self.wait(&mut backoff, &err.to_string()).await?;
                }
            }
        }
    }

    async fn wait(&self, backoff: &mut Backoff, detail: &str) -> Result<(), Stop> {
        if !self.told.swap(true, Ordering::Relaxed) {
            self.progress.say(format!("artifacts: {detail}; trying again until the upload deadline"));
        }
        self.before_deadline(backoff.wait()).await.ok_or_else(|| self.late(detail))
    }

    async fn before_deadline<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout_at(self.deadline, work).await.ok()
    }

    fn late(&self, detail: &str) -> Stop {
        Stop::Failed(format!("the upload deadline passed: {detail}"))
    }
}

const fn patience() -> Backoff {
    Backoff::new(Duration::from_millis(200), Duration::from_secs(15))
}

fn entry(ordinal: u64, path: Vec<u8>, source: &Source, sha256: [u8; 32]) -> ManifestEntry {
    let artifact = Artifact {
        path,
        size: source.size,
        sha256,
        mode: source.mode,
        modified_at: Some(source.modified_at),
    };
    ManifestEntry { ordinal, artifact }
}
