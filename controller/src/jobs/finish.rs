//! Finish: one idempotent call. The report commits the manifest, the end of the log and the outcome together.

use super::{
    Jobs,
    chores::Chore,
    command::{Command, Results},
    error::Error,
    live::{Live, Reboot},
    types::LiveAttempt,
    work::Work,
};
use crate::{
    lifecycle::{Ending, Event, Refusal},
    store::{self, Arrived, Tx},
};
use longshore_common::{
    agent::FinishReport,
    artifact::ManifestEntry,
    ids::{AttemptRef, JobId},
    job::Outcome,
};
use std::collections::{HashMap, HashSet};

impl Jobs {
    /// Whether this token is the latest of its job and the job has not ended. Touches memory only.
    pub fn check_attempt(&self, attempt: AttemptRef) -> Result<LiveAttempt, Refusal> {
        let live = &self.inner.shared.live;
        live.check(attempt).inspect_err(|_| live.former.is_asked_for(attempt))
    }

    /// Whether an agent has this attempt, and its lease has not run out. Touches memory only.
    pub fn holds(&self, attempt: AttemptRef) -> bool {
        self.inner.shared.live.has(attempt)
    }

    /// Keeps one page of a manifest aside until `finish` commits it. A repeat replaces.
    pub async fn put_manifest(
        &self,
        attempt: AttemptRef,
        page: u32,
        entries: Vec<ManifestEntry>,
    ) -> Result<Result<(), Refusal>, Error> {
        if let Err(refusal) = self.check_attempt(attempt) {
            return Ok(Err(refusal));
        }
        self.chore(Chore::Page { attempt, page, entries }).await?;
        Ok(Ok(()))
    }

    /// Notes that objects with these ordinals may come to be, before anybody is told where to put them: what an attempt
    /// uploads and never lists is removed with its job.
    pub async fn open_uploads(
        &self,
        attempt: AttemptRef,
        ordinals: impl Iterator<Item = u64>,
    ) -> Result<(), Error> {
        let Some(opened) = ordinals.max().map(|last| last.saturating_add(1)) else { return Ok(()) };
        let live = &self.inner.shared.live;
        let most = live.opened(attempt).saturating_add(UPLOADS_AHEAD);
        if opened > most {
            return Err(Error::Invalid(format!(
                "an ordinal is not below {most}: files are counted up from 0"
            )));
        }
        if live.opened(attempt) < opened {
            self.chore(Chore::Opened { attempt, opened }).await?;
            live.set_opened(attempt, opened);
        }
        Ok(())
    }

    /// Idempotent: a repeat of an accepted report is accepted.
    pub async fn finish(&self, reports: Vec<FinishReport>) -> Result<Results<(), Refusal>, Error> {
        if reports.is_empty() { Ok(Vec::new()) } else { self.call(Command::Finish, reports).await }
    }
}

/// How far ordinals may run ahead of what is open, from one call to the next: a removal names every object below the
/// last, so a lone large ordinal would cost as much as all the files below it. Many times what agents send at once.
const UPLOADS_AHEAD: u64 = 10_000;

/// What the reports of a batch refer to.
#[derive(Debug, Default)]
pub(super) struct Known {
    manifests: HashMap<(JobId, u32), Arrived>,
    /// Earlier attempts that were reported.
    reported: HashSet<AttemptRef>,
    /// Their machines were started anew meanwhile.
    reboots: HashMap<AttemptRef, Reboot>,
}

impl Known {
    pub(super) async fn load(
        batch: &[Command],
        live: &Live,
        work: &Work,
        tx: &mut Tx,
    ) -> Result<Self, store::Error> {
        let (mut ending, mut earlier) = (Vec::new(), Vec::new());
        let mut reboots = HashMap::new();
        for command in batch {
            let Command::Finish(call) = command else { continue };
            for report in &call.input {
                if let Some(reboot) = live.reboot(report.attempt) {
                    reboots.insert(report.attempt, reboot);
                }
                let Some(row) = work.jobs.get(&report.attempt.job) else { continue };
                match row.job.check(report.attempt) {
                    Ok(latest) if latest.reported => {}
                    Ok(_) => ending.push((report.attempt, report.manifest_pages)),
                    Err(_) => earlier.push(report.attempt),
                }
            }
        }
        let reported = tx.load_attempts(&earlier).await?;
        let reported = reported.into_iter().filter(|row| row.reported).map(|row| row.attempt).collect();
        // Pages that the report does not count: a collection that was cut short, or one of an agent that was killed.
        tx.drop_pages(&ending).await?;
        let paged: Vec<_> =
            ending.into_iter().filter(|(_, pages)| *pages > 0).map(|(attempt, _)| attempt).collect();
        Ok(Self { manifests: tx.manifests(&paged).await?, reported, reboots })
    }
}

pub(super) fn apply(reports: &[FinishReport], known: &Known, work: &mut Work) -> Results<(), Refusal> {
    reports.iter().map(|report| one(report, known, work)).collect()
}

fn one(report: &FinishReport, known: &Known, work: &mut Work) -> Result<(), Refusal> {
    let attempt = report.attempt;
    if known.reported.contains(&attempt) {
        return Ok(());
    }
    let row = work.jobs.get(&attempt.job).ok_or(Refusal::Fenced)?;
    if row.job.check(attempt)?.reported {
        return Ok(());
    }
    complete(report, known)?;
    let mut detail = report.detail.clone();
    if report.outcome == Outcome::Cancelled && detail.is_empty() {
        detail = row.job.desired.sentence();
    }
    let reboot = known.reboots.get(&attempt).filter(|_| report.outcome == Outcome::AgentLost);
    let event = if report.outcome == Outcome::AgentShutdown || reboot == Some(&Reboot::InOrder) {
        Event::HandedBack { attempt, detail }
    } else {
        Event::Finished {
            attempt,
            ending: Ending { outcome: report.outcome.clone(), detail },
            died: reboot.is_some(),
            jitter: rand::random_range(0.0..1.0),
        }
    };
    work.apply(attempt.job, event)?;
    if let Some(row) = work.jobs.get_mut(&attempt.job) {
        row.started_at = report.started_at.or(row.started_at);
    }
    let update = work.update(attempt);
    update.started_at = report.started_at.or(update.started_at);
    update.exited_at = report.exited_at.or(update.exited_at);
    update.digest = report.digest.clone().or(update.digest.take());
    if let Some(close) = &mut update.close {
        close.log_end = report.log_end;
        close.artifact_count = report.artifact_count;
        close.artifact_bytes = report.artifact_bytes;
        close.usage = report.usage;
        close.notes.clone_from(&report.notes);
    }
    Ok(())
}

/// Only a whole manifest is committed.
fn complete(report: &FinishReport, known: &Known) -> Result<(), Refusal> {
    let arrived =
        known.manifests.get(&(report.attempt.job, report.attempt.number)).copied().unwrap_or_default();
    let pages = u64::from(report.manifest_pages);
    if arrived.pages != pages || (pages > 0 && arrived.last + 1 != pages) {
        return Err(Refusal::ManifestIncomplete(format!("{} of {pages} pages are here", arrived.pages)));
    }
    if arrived.entries != report.artifact_count {
        return Err(Refusal::ManifestIncomplete(format!(
            "{} files are listed, the report counts {}",
            arrived.entries, report.artifact_count
        )));
    }
    Ok(())
}
