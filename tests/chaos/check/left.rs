//! What should be gone when every job has ended: looked for until it is, or until it should have been.

use super::Evidence;
use crate::{stack::Stack, stream::ended};
use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

/// Longer than any sweep takes to come round.
const PATIENCE: Duration = Duration::from_secs(200);
const LOOK: Duration = Duration::from_secs(1);

/// What is left of each kind, by name.
pub(crate) type Left = BTreeMap<&'static str, Vec<String>>;

pub(super) async fn all(evidence: &Evidence<'_>) -> anyhow::Result<Left> {
    let began = Instant::now();
    let mut told = false;
    loop {
        let left = look(evidence).await?;
        let some = left.values().any(|names| !names.is_empty());
        if !some || began.elapsed() > PATIENCE {
            return Ok(left);
        }
        if !told {
            let counts: Vec<_> = left.iter().map(|(what, names)| format!("{} {what}", names.len())).collect();
            evidence.timeline.note(&format!("still there: {}", counts.join(", ")));
            told = true;
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn look(evidence: &Evidence<'_>) -> anyhow::Result<Left> {
    let Evidence { client, stack, .. } = evidence;
    let agents = client.agents().await?;
    let held = agents.iter().flat_map(|agent| {
        agent.jobs.iter().map(|held| format!("{}: {} attempt {}", agent.name, held.job, held.attempt))
    });
    let unfinished = client.list().await?.into_iter().filter(|job| !ended(job));
    let engine = stack.engine();
    let lines = |text: String| text.lines().map(str::to_owned).collect();
    Ok(BTreeMap::from([
        ("containers", lines(engine.docker(&["ps", "-a", "--format", "{{.Names}} {{.Status}} {{.Labels}}"]))),
        ("volumes", lines(engine.docker(&["volume", "ls", "-q"]))),
        ("scratch folders", entries(stack, "attempts", "")),
        ("journal entries", entries(stack, "journal", ".json")),
        ("spooled logs", entries(stack, "logs", ".log")),
        ("hints", hints(stack)),
        ("leases", held.collect()),
        ("unfinished jobs", unfinished.map(|job| job.id).collect()),
    ]))
}

/// What is in this folder of each agent, of those names that end so.
fn entries(stack: &Stack, name: &str, end: &str) -> Vec<String> {
    let folders = (0..2).map(|seat| stack.agent_data(seat).join(name));
    let entries = folders.filter_map(|folder| fs::read_dir(folder).ok()).flatten();
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path().display().to_string()));
    paths.filter(|path| path.ends_with(end)).collect()
}

/// Messages in the lanes, delivered or not.
fn hints(stack: &Stack) -> Vec<String> {
    let listed = stack.broker().ctl(&["list_queues", "messages", "name", "--no-table-headers"]);
    let queues = listed.lines().map(str::trim).filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    queues.filter(|line| !line.starts_with("0\t")).map(str::to_owned).collect()
}
