//! What should be gone when every job has ended: looked for until it is, or until it should have been.

use super::Evidence;
use crate::stack::Stack;
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

/// Longer than any sweep takes to come round.
const PATIENCE: Duration = Duration::from_secs(200);
const LOOK: Duration = Duration::from_secs(1);

pub(super) async fn all(evidence: &Evidence<'_>) -> anyhow::Result<BTreeMap<&'static str, usize>> {
    let began = Instant::now();
    let mut told = false;
    loop {
        let left = count(evidence).await?;
        let some = left.values().any(|count| *count > 0);
        if !some || began.elapsed() > PATIENCE {
            return Ok(left);
        }
        if !told {
            evidence.timeline.note(&format!("still there: {left:?}"));
            told = true;
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn count(evidence: &Evidence<'_>) -> anyhow::Result<BTreeMap<&'static str, usize>> {
    let Evidence { client, stack, .. } = evidence;
    let status = client.status().await?;
    let held: usize = client.agents().await?.iter().map(|agent| agent.jobs.len()).sum();
    let engine = stack.engine();
    let lines = |text: String| text.lines().count();
    let folders = |name: &str| (0..2).map(|seat| entries(&stack.agent_data(seat).join(name))).sum();
    Ok(BTreeMap::from([
        ("containers", lines(engine.docker(&["ps", "-aq"]))),
        ("volumes", lines(engine.docker(&["volume", "ls", "-q"]))),
        ("scratch folders", folders("attempts")),
        ("journal entries", folders("journal")),
        ("spooled logs", folders("logs")),
        ("hints", hints(stack)),
        ("leases", held),
        ("unfinished jobs", usize::try_from(status.queued + status.waiting + status.running)?),
    ]))
}

fn entries(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

/// Messages in the lanes, delivered or not.
fn hints(stack: &Stack) -> usize {
    let listed = stack.broker().ctl(&["list_queues", "messages", "--no-table-headers"]);
    listed.lines().filter_map(|line| line.trim().parse::<usize>().ok()).sum()
}
