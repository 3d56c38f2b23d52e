//! After the container: its files, its report, and only when that was accepted the removal. A report is sent until
//! it is accepted or refused for good, whatever else ends.

use super::{Attempt, Cause, Cut, Tools, held::Story, phase::Verdict, secrets::folder_name};
use crate::{
    artifacts, link,
    logs::{ClosedLog, Shipped},
    runtime::{ContainerId, Progress},
    sized, tree,
};
use longshore_common::{agent::FinishReport, job::Outcome, retry::Backoff};
use std::{io::ErrorKind, path::Path, time::Duration};
use tokio::{sync::mpsc, time::Instant};

const PROGRESS_LINES: usize = 32;

/// How long one wait for the log's shipping lasts before it is looked at again.
const SHIPPING_LOOK: Duration = Duration::from_secs(60);

/// Then the removal goes on after the report.
const FIRST_REMOVE: Duration = Duration::from_secs(15);

impl Attempt {
    /// Stores `/out`, whatever the exit.
    pub(super) async fn collect(&mut self, out: &Path) -> Result<(), Cut> {
        let made = self.tools().journal.is_kept();
        if self.ending.stopped.as_ref().is_some_and(Cause::gives_back) || is_empty(out, made) {
            return Ok(());
        }
        let (sender, mut lines) = mpsc::channel(PROGRESS_LINES);
        let progress = Progress::new(sender);
        let shared = std::sync::Arc::clone(&self.shared);
        let grant = std::sync::Arc::clone(&self.grant);
        let deadline = super::deadlines::after(Instant::now(), grant.spec.deadlines.upload);
        let limits = (&grant.spec.outputs, grant.spec.resources.scratch_bytes);
        let storing = shared.tools.uploads.collect(grant.attempt, out, limits, deadline, &progress);
        let mut storing = Box::pin(storing);
        let mut known = self.ending.stopped.clone();
        let mut leave_at = None;
        let stored = loop {
            tokio::select! {
                biased;
                // Its work is done, only its files are not away: to run it again would cost more than to wait.
                cause = self.signal.beyond(known.as_ref()) => match cause {
                    Cause::Drained(_) => known = Some(cause),
                    Cause::HandingBack => {
                        known = Some(cause);
                        leave_at = Some(super::deadlines::after(Instant::now(), shared.tools.leave_uploads));
                    }
                    cause => return Err(cause.into()),
                },
                () = until(leave_at) => return Err(self.leave_files()),
                Some(line) = lines.recv() => self.log.system(&line).await,
                stored = &mut storing => break stored,
            }
        };
        while let Ok(line) = lines.try_recv() {
            self.log.system(&line).await;
        }
        match stored {
            Ok(collected) => {
                self.ending.not_stored.clone_from(&collected.problem);
                self.collected = collected;
                Ok(())
            }
            Err(artifacts::Error::Fenced(_)) => Err(Cause::Revoked.into()),
            Err(error @ artifacts::Error::Client(_)) => {
                self.ending.not_stored = Some((Outcome::ArtifactUploadFailed, error.to_string()));
                Ok(())
            }
        }
    }

    /// The process ends before its files are stored: the next one stores them, if there is a journal to tell it.
    fn leave_files(&self) -> Cut {
        if self.tools().journal.is_kept() { Cause::Leaving.into() } else { Cause::HandingBack.into() }
    }

    /// Reports how it ended and cleans up.
    pub(super) async fn end(mut self) {
        if self.ending.stopped == Some(Cause::Leaving) && (self.container.is_some() || self.sought.is_some())
        {
            tracing::info!("leaving the container to the agent's next process");
            self.holding.stay();
            return;
        }
        if self.is_gone().await {
            self.permit.release_compute();
        } else {
            self.permit.stays();
        }
        // Files of a container that was not found are as they were.
        if !self.ending.is_revoked() && self.sought.is_none() {
            self.note_unstored(matches!(&self.ending.not_stored, Some((Outcome::ArtifactUploadFailed, _))))
                .await;
        }
        let log = self.log.close().await;
        if let Ok(note) = self.shipped(&log).await
            && let Some(report) = self.report(&log, note)
        {
            self.finish(report).await;
        }
        let (dir, intent) = (self.dir(), self.intent());
        let Self { shared, holding, permit, container, sought, .. } = self;
        // The controller has its report: heartbeats must not list it any more.
        drop(holding);
        log.remove().await;
        let tools = &shared.tools;
        if !intent.unstored {
            let container = match sought {
                Some(earlier) => earlier.container(tools, intent.attempt).await,
                None => container,
            };
            clean(tools, container.as_ref(), &dir).await;
        }
        tools.caches.release(&intent.attempt);
        tools.journal.close(intent).await;
        drop(permit);
    }

    /// In the journal before the report: a process that dies when that is taken leaves nobody else to say it.
    async fn note_unstored(&mut self, unstored: bool) {
        if std::mem::replace(&mut self.unstored, unstored) != unstored {
            self.tools().journal.note(self.intent()).await;
        }
    }

    /// Without an exit (fenced, or a start nobody answered) the container may run. It ends before anything is waited
    /// for, and keeps its share of the machine until it is gone. Nothing was collected from it, unless an earlier process
    /// did so: then it had ended, and its files stay.
    async fn is_gone(&self) -> bool {
        match &self.container {
            None if self.sought.is_some() => self.unstored,
            Some(container) if self.ending.exit.is_none() && !self.unstored => {
                let removed = self.shared.tools.runtime.remove(container);
                matches!(tokio::time::timeout(FIRST_REMOVE, removed).await, Ok(Ok(())))
            }
            _ => true,
        }
    }

    /// Waits until the controller has the whole log. The answer is a note if it will never have it.
    async fn shipped(&mut self, log: &ClosedLog) -> Result<Option<String>, Revoked> {
        if self.ending.is_revoked() {
            return Err(Revoked);
        }
        if log.end() == 0 {
            return Ok(None);
        }
        loop {
            let shipped = tokio::select! {
                biased;
                () = self.signal.revoked() => return Err(Revoked),
                shipped = log.shipped(Instant::now() + SHIPPING_LOOK) => shipped,
            };
            match shipped {
                Shipped::Stored => return Ok(None),
                Shipped::Fenced => {
                    self.ending.stop(Cause::Revoked);
                    return Err(Revoked);
                }
                Shipped::Refused(why) => return Ok(Some(format!("log_incomplete: {why}"))),
                Shipped::Late => tracing::warn!("the log is not with the controller yet"),
            }
        }
    }

    fn report(&mut self, log: &ClosedLog, note: Option<String>) -> Option<FinishReport> {
        // What came in its last moments, or was told late, counts too.
        self.ending.gpus = Story { unknown: self.ending.gpus.unknown, ..self.holding.story_so_far() };
        self.usage.gpu = self.holding.gpu_usage();
        let Verdict::Report { outcome, detail, mut notes } = std::mem::take(&mut self.ending).verdict()
        else {
            return None;
        };
        notes.append(&mut self.collected.notes);
        notes.extend(note);
        // An engine or a registry may have said what it was given.
        let detail = self.log.masked(&detail);
        notes.iter_mut().for_each(|note| *note = self.log.masked(note));
        Some(FinishReport {
            attempt: self.grant.attempt,
            outcome,
            detail,
            log_end: log.end(),
            manifest_pages: self.collected.pages,
            artifact_count: self.collected.count,
            artifact_bytes: self.collected.bytes,
            usage: self.usage,
            started_at: self.started_at,
            exited_at: self.exited_at,
            notes,
            digest: self.digest.clone(),
        })
    }

    /// Returns when the controller has the report, or nothing more is to be said.
    async fn finish(&mut self, mut report: FinishReport) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        loop {
            let answer = tokio::select! {
                biased;
                () = self.signal.revoked() => return,
                answer = self.shared.tools.controller.finish(report.clone()) => answer,
            };
            match answer {
                Ok(()) => {
                    tracing::debug!(outcome = %report.outcome, "finished");
                    return;
                }
                Err(link::Error::Fenced(_)) => return,
                Err(link::Error::Refused(why)) if report.manifest_pages > 0 => {
                    tracing::warn!(%why, "the list of files was refused");
                    self.note_unstored(true).await;
                    report = without_files(report, &why);
                }
                Err(error @ link::Error::Refused(_)) => {
                    tracing::error!(%error, outcome = %report.outcome, "the finish report was refused");
                    return;
                }
                Err(link::Error::Unreachable(_) | link::Error::Denied(_)) => {
                    tokio::select! {
                        () = backoff.wait() => {}
                        () = self.signal.revoked() => return,
                    }
                }
            }
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// What is left to say when the controller has not what the report lists.
fn without_files(report: FinishReport, why: &str) -> FinishReport {
    let why = format!("the list of files was refused: {why}");
    let mut report = FinishReport { manifest_pages: 0, artifact_count: 0, artifact_bytes: 0, ..report };
    if report.outcome == Outcome::Succeeded {
        (report.outcome, report.detail) = (Outcome::ArtifactUploadFailed, why);
    } else {
        report.notes.push(format!("{}: {why}", Outcome::ArtifactUploadFailed.name()));
    }
    report
}

/// Nothing more is to be said about this attempt.
struct Revoked;

/// Whether there is nothing to store. A folder that cannot be read, or is gone although one was made for the container,
/// is for the collector to complain about.
fn is_empty(out: &Path, made: bool) -> bool {
    match std::fs::read_dir(out) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == ErrorKind::NotFound && !made,
    }
}

/// Whether it may still run. As long as it does, it has its share of the machine.
async fn runs(tools: &Tools, container: &ContainerId) -> bool {
    let known = tools.runtime.list().await;
    known.map_or(true, |known| known.iter().any(|known| known.container == *container && known.running))
}

/// Removes the container and everything of the attempt on this node, however long the engine is away or the container
/// does not end.
pub(crate) async fn clean(tools: &Tools, container: Option<&ContainerId>, dir: &Path) {
    if let Some(container) = container {
        let mut backoff = super::engine_backoff();
        while let Err(error) = tools.runtime.remove(container).await {
            if !error.is_transient() && !runs(tools, container).await {
                tracing::error!(%error, container.id = %container.0, "the container could not be removed");
                break;
            }
            tools.engine_away.notify_one();
            backoff.wait().await;
        }
    }
    let (path, vault, name) = (dir.to_owned(), tools.vault.clone(), folder_name(dir));
    let shares = tools.shares.clone();
    let removed = tokio::task::spawn_blocking(move || {
        vault.remove(&name)?;
        shares.release(&name)?;
        if !path.exists() {
            return Ok(());
        }
        sized::release(&path.join(sized::FOLDER))?;
        tree::remove(&path)
    });
    let removed = removed.await;
    if let Err(error) = removed.unwrap_or_else(|panic| Err(std::io::Error::other(panic))) {
        tracing::error!(%error, path = %dir.display(), "the attempt's folder could not be removed");
    }
}
