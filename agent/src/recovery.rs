//! What an earlier process of this agent left behind. Its attempts are ended and handed back; a later version takes
//! their containers up again, from the same journal. Ended containers of ours that no journal names are swept.

use crate::{
    attempt::{Tools, clean},
    intake::Door,
    journal::Intent,
    link,
    runtime::{ContainerId, Known, sweep::Sweeper},
};
use longshore_common::{
    agent::{FinishReport, Usage},
    clock::Timestamp,
    ids::AttemptRef,
    job::{JobState, Outcome},
    retry::Backoff,
};
use std::{collections::BTreeSet, time::Duration};
use tokio::sync::watch;

/// Long enough for a person to see the failure and mend the store.
const KEEP_FOR: Duration = Duration::from_secs(24 * 3600);
const SWEEP: Duration = Duration::from_secs(3600);
const SWEEP_CONTAINERS: Duration = Duration::from_secs(60);

/// Ends what the journal names. Runs beside the intake; the attempts are listed as held until they are reported.
pub(crate) async fn recover(tools: &Tools, intents: Vec<Intent>) {
    let intents: Vec<_> = intents.into_iter().filter(|intent| intent.kept.is_none()).collect();
    if intents.is_empty() {
        return;
    }
    // All of it before the first await: the intake offers what is not counted.
    let mut held = Vec::new();
    for intent in &intents {
        let Some((holding, _)) = tools.held.admit(intent.attempt) else { continue };
        holding.phase(JobState::Collecting);
        held.push((
            intent,
            holding,
            tools.slots.take(&intent.short_id, &intent.spec.resources, &intent.gpus),
        ));
    }
    let known = containers(tools).await;
    let mut cleaned = Vec::new();
    for (intent, holding, permit) in held {
        let container = known.iter().find(|known| known.attempt == intent.attempt);
        tracing::warn!(
            job.id = %intent.short_id,
            attempt.id = %intent.attempt,
            container = container.is_some(),
            "handing back an attempt of the agent's earlier process",
        );
        let container: Option<&ContainerId> = container.map(|known| &known.container);
        clean(tools, container, &tools.attempt_dir(&intent.short_id, &intent.attempt)).await;
        drop(permit);
        cleaned.push((intent, holding));
    }
    // Only now, since a controller that is away is waited for.
    for (intent, holding) in cleaned {
        report(tools, intent).await;
        drop(holding);
        tools.journal.forget(&intent.attempt);
    }
}

/// Removes files that waited long enough for another upload. Runs until it is dropped.
pub(crate) async fn sweep_kept(tools: &Tools) {
    loop {
        let intents = match tools.journal.read() {
            Ok(intents) => intents,
            Err(error) => {
                tracing::error!(%error, "kept files cannot be looked through");
                Vec::new()
            }
        };
        let old = |kept: Timestamp| Timestamp::now().since(kept) > KEEP_FOR;
        let due: Vec<_> = intents.into_iter().filter(|intent| intent.kept.is_some_and(old)).collect();
        let known = if due.is_empty() { Vec::new() } else { containers(tools).await };
        for intent in due {
            tracing::info!(job.id = %intent.short_id, "removing files that could not be stored");
            let container = known.iter().find(|known| known.attempt == intent.attempt);
            let dir = tools.attempt_dir(&intent.short_id, &intent.attempt);
            clean(tools, container.map(|known| &known.container), &dir).await;
            tools.journal.forget(&intent.attempt);
        }
        tokio::time::sleep(SWEEP).await;
    }
}

/// Removes ended containers that neither an attempt nor the journal names. Runs until it is dropped.
pub(crate) async fn sweep_containers(tools: &Tools, door: watch::Receiver<Option<Door>>) {
    let mut sweeper = Sweeper::default();
    loop {
        tokio::time::sleep(SWEEP_CONTAINERS).await;
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

async fn containers(tools: &Tools) -> Vec<Known> {
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
    loop {
        match tools.runtime.list().await {
            Ok(known) => return known,
            Err(error) if error.is_transient() => backoff.wait().await,
            Err(error) => {
                tracing::error!(%error, "containers of the earlier process cannot be listed");
                return Vec::new();
            }
        }
    }
}

async fn report(tools: &Tools, intent: &Intent) {
    let report = FinishReport {
        attempt: intent.attempt,
        outcome: Outcome::AgentShutdown,
        detail: "the agent's process ended while it held the job".to_owned(),
        log_end: 0,
        manifest_pages: 0,
        artifact_count: 0,
        artifact_bytes: 0,
        usage: Usage::default(),
        started_at: None,
        exited_at: None,
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
