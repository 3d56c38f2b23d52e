//! What an earlier process of this agent left behind: its attempts are gone on with, files kept for another upload
//! wait their time, ended containers of ours that no journal names are swept. Never touches what is not ours.

use crate::{
    attempt::{Attempts, Earlier, Held, Left, Tools, clean, containers, of},
    intake::Door,
    journal::{self, Contact, Intent, Journal},
    link,
    runtime::sweep::{Folders, Sweeper},
    slots::Slots,
};
use futures::future::join_all;
use longshore_common::{
    agent::{FinishReport, Usage},
    clock::{Timestamp, Uptime},
    ids::AttemptRef,
    job::Outcome,
    retry::Backoff,
};
use std::{collections::BTreeSet, time::Duration};
use tokio::{sync::watch, time::Instant};

/// Kept files stay longer than they must by so much at most.
const SWEEP: Duration = Duration::from_secs(3600);
const SHORTEST_SWEEP: Duration = Duration::from_secs(1);
const SWEEP_LEFT: Duration = Duration::from_secs(60);

/// Lists and counts again what the journal names, before anything is offered or a heartbeat goes up.
pub(crate) fn admit(journal: &Journal, held: &Held, slots: &Slots) -> Result<Vec<Left>, journal::Error> {
    let (contact, now) = (journal.last_contact(), Uptime::now());
    let admit = |intent: Intent| {
        // Without a note the lease counts from now: only another agent could then run the job beside us.
        let silent = silence(&intent, contact.as_ref(), now).unwrap_or_default();
        let since = Instant::now().checked_sub(silent).unwrap_or_else(Instant::now);
        let (holding, signal) = held.admit(intent.attempt, intent.lease, since)?;
        holding.serves(&intent.short_id, &intent.project, &intent.gpus);
        let permit = slots.take(&intent.short_id, &intent.spec.resources, &intent.gpus);
        Some(Left { intent, holding, signal, permit })
    };
    let intents = journal.read()?.into_iter().filter(|intent| intent.kept.is_none());
    Ok(intents.filter_map(admit).collect())
}

/// How long ago its lease was renewed, or granted. Of an attempt from before the machine's last start it says nothing,
/// and does not matter: that one is given back.
fn silence(intent: &Intent, contact: Option<&Contact>, now: Option<Uptime>) -> Option<Duration> {
    let renewed = contact.filter(|contact| contact.boot_id == intent.boot_id).map(|contact| contact.at);
    Some(now?.since(renewed.max(intent.asked)?))
}

/// Goes on with the attempts of the earlier process. Those from before the machine's last start are handed back:
/// their containers ended with it, whatever becomes of the engine. Not before the controller has heard of that start:
/// otherwise it takes the loss for one that nobody died of.
pub(crate) async fn recover(attempts: &Attempts, left: Vec<Left>, mut door: watch::Receiver<Option<Door>>) {
    let tools = attempts.tools();
    let (same, rebooted): (Vec<_>, Vec<_>) =
        left.into_iter().partition(|left| left.intent.boot_id == tools.boot_id);
    let earlier = Earlier::default();
    for left in same {
        attempts.take_over(left, earlier.clone());
    }
    if rebooted.is_empty() || door.wait_for(Option::is_some).await.is_err() {
        return;
    }
    join_all(rebooted.into_iter().map(|left| hand_back(tools, left, &earlier))).await;
}

async fn hand_back(tools: &Tools, left: Left, earlier: &Earlier) {
    let Left { intent, holding, permit, .. } = left;
    let (job, attempt) = (&intent.short_id, intent.attempt);
    tracing::warn!(job.id = %job, attempt.id = %attempt, "lost with the machine's restart");
    report(tools, &intent).await;
    drop(holding);
    if !intent.unstored {
        let container = earlier.container(tools, attempt).await;
        clean(tools, container.as_ref(), &tools.attempt_dir(job, &attempt)).await;
    }
    tools.caches.release(&attempt);
    drop(permit);
    tools.journal.close(intent).await;
}

/// Removes files that waited for another upload for as long as they may. Runs until it is dropped.
pub(crate) async fn sweep_kept(tools: &Tools) {
    let keep = tools.keep_files;
    loop {
        let intents = match tools.journal.read() {
            Ok(intents) => intents,
            Err(error) => {
                tracing::error!(%error, "kept files cannot be looked through");
                Vec::new()
            }
        };
        let old = |kept: Timestamp| Timestamp::now().since(kept) > keep;
        let due: Vec<_> = intents.into_iter().filter(|intent| intent.kept.is_some_and(old)).collect();
        let known = if due.is_empty() { Vec::new() } else { containers(tools).await };
        for intent in due {
            tracing::info!(job.id = %intent.short_id, "removing files that could not be stored");
            let dir = tools.attempt_dir(&intent.short_id, &intent.attempt);
            clean(tools, of(&known, intent.attempt).as_ref(), &dir).await;
            tools.journal.forget(&intent.attempt);
        }
        tokio::time::sleep((keep / 8).clamp(SHORTEST_SWEEP, SWEEP)).await;
    }
}

/// Removes ended containers, and folders, that neither an attempt nor the journal names. Runs until it is dropped.
pub(crate) async fn sweep_left(tools: &Tools, door: watch::Receiver<Option<Door>>) {
    let (mut sweeper, mut folders) = (Sweeper::default(), Folders::default());
    loop {
        tokio::time::sleep(SWEEP_LEFT).await;
        sweep_folders(tools, &mut folders).await;
        let Some(cluster) = door.borrow().as_ref().map(|door| door.cluster) else { continue };
        match sweeper.sweep(&*tools.runtime, cluster, || named(tools)).await {
            Ok(swept) => {
                for attempt in swept.removed {
                    tracing::info!(attempt.id = %attempt, "removed a container nobody holds");
                }
                for attempt in swept.strangers {
                    tracing::warn!(attempt.id = %attempt, "a container runs that nobody holds; it is left alone");
                }
            }
            Err(error) => tracing::debug!(%error, "no sweep this time"),
        }
    }
}

/// Without a journal nothing says whose a folder is.
async fn sweep_folders(tools: &Tools, folders: &mut Folders) {
    if !tools.journal.is_kept() {
        return;
    }
    // Journal and containers, whoever's cluster they are of: both must be known.
    let (Ok(intents), Ok(known)) = (tools.journal.read(), tools.runtime.list().await) else { return };
    let intents = intents.iter().map(|intent| tools.attempt_dir(&intent.short_id, &intent.attempt));
    let named = intents.chain(known.into_iter().filter_map(|known| known.folder)).collect();
    let due = match folders.due(&tools.dir, &named) {
        Ok(due) => due,
        Err(error) => return tracing::warn!(%error, "the folders of attempts cannot be looked through"),
    };
    for folder in due {
        tracing::info!(folder = %folder.display(), "removing a folder nobody holds");
        clean(tools, None, &folder).await;
    }
}

/// Attempts whose containers are somebody's.
fn named(tools: &Tools) -> Option<BTreeSet<AttemptRef>> {
    let intents = match tools.journal.read() {
        Ok(intents) => intents,
        Err(error) => {
            tracing::error!(%error, "containers cannot be swept without the journal");
            return None;
        }
    };
    let held = tools.held.list().into_iter().map(|held| held.attempt);
    Some(held.chain(intents.into_iter().map(|intent| intent.attempt)).collect())
}

async fn report(tools: &Tools, intent: &Intent) {
    let report = FinishReport {
        attempt: intent.attempt,
        outcome: Outcome::AgentLost,
        detail: "the machine was restarted while it ran the job".to_owned(),
        log_end: 0,
        manifest_pages: 0,
        artifact_count: 0,
        artifact_bytes: 0,
        usage: Usage::default(),
        started_at: None,
        exited_at: None,
        digest: None,
        notes: Vec::new(),
    };
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
    loop {
        match tools.controller.finish(report.clone()).await {
            // Fenced: another has it by now, which is as good.
            Ok(()) | Err(link::Error::Fenced(_)) => return,
            Err(error) if error.is_transient() => backoff.wait().await,
            Err(error) => {
                tracing::error!(%error, "a finish report was refused");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempt::Cause;
    use longshore_common::{
        agent::Grant,
        ids::{ClusterId, Epoch, JobId, ShortId},
        job::JobSpec,
        process::{Process, WallClock},
    };
    use std::sync::Arc;

    fn intent(boot_id: &str, asked: Option<Uptime>) -> Intent {
        let spec = JobSpec::for_image("busybox:1");
        let grant = Grant {
            attempt: AttemptRef { job: JobId::new(), number: 1, epoch: Epoch(1) },
            short_id: ShortId::random(),
            project: "default".into(),
            lane: spec.lane(),
            spec,
            lease: Duration::from_secs(300),
            gpus: vec![],
            cancel_requested: false,
            sealed: false,
        };
        Intent { asked, ..Intent::of(ClusterId::new(), boot_id, &grant) }
    }

    fn up(seconds: u64) -> Uptime {
        Uptime::of(Duration::from_secs(seconds))
    }

    #[test]
    fn a_lease_counts_from_the_later_of_grant_and_renewal_on_the_clock_of_this_start() {
        let contact = Contact { boot_id: "this".into(), at: up(1000), time: None };
        let silent =
            |intent: &Intent| silence(intent, Some(&contact), Some(up(1060))).map(|length| length.as_secs());
        assert_eq!(silent(&intent("this", Some(up(10)))), Some(60));
        assert_eq!(silent(&intent("this", Some(up(1050)))), Some(10), "granted after a long silence");
        assert_eq!(silent(&intent("this", None)), Some(60));
        assert_eq!(silent(&intent("another", None)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_of_the_clock_neither_ends_a_lease_nor_makes_it_longer() {
        let clock = Arc::new(WallClock::new(Timestamp::from_micros(1_000_000_000_000)));
        let played = async {
            let dir = tempfile::tempdir().expect("a folder");
            let journal = Journal::open(dir.path()).expect("opened");
            let now = || Uptime::now().expect("played");
            journal.intend(intent("boot", Some(now()))).await.expect("written");
            let contact = Contact { boot_id: "boot".into(), at: now(), time: None };
            journal.note_contact(contact, Duration::ZERO).await;
            let ended = |journal: &Journal| {
                let held = Held::default();
                let left = admit(journal, &held, &Slots::new(8)).expect("read").pop().expect("one");
                held.stop_expired(Instant::now());
                left.signal.said()
            };
            clock.set_ahead(Duration::from_secs(600));
            assert_eq!(ended(&journal), None);
            clock.set_behind(Duration::from_secs(600));
            tokio::time::advance(Duration::from_secs(301)).await;
            assert!(matches!(ended(&journal), Some(Cause::LeaseLost(_))));
        };
        Process::new(Arc::clone(&clock)).within(played).await;
    }
}
