//! A batch as it goes on, and what is told at its end.

use super::super::{
    ls,
    run::{detail, exit_code},
};
use super::there;
use crate::client::{Client, is_lost};
use crate::failure::Failure;
use crate::follow::{self, persist};
use crate::output::{FormatArgs, Progress, print, say, to_json};
use longshore_common::job::JobState;
use longshore_proto::v1;
use std::io::IsTerminal as _;
use std::time::Duration;
use tokio::time::Instant;

/// Without a terminal a line is printed this often at most.
const LINES: Duration = Duration::from_secs(5);
/// A batch of which nothing has begun is told why after this time.
const PATIENCE: Duration = Duration::from_secs(2);
/// Rows told at the end.
const TOLD: usize = 10;

/// The batch at its end; on the way a bar on a terminal, else lines.
pub(in crate::commands) async fn follow(client: &Client, batch: &str) -> anyhow::Result<v1::Batch> {
    let bar = Progress::jobs("batch");
    let is_terminal = std::io::stderr().is_terminal();
    let mut told: Option<(Instant, String)> = None;
    let tell = |batch: &v1::Batch| {
        let line = counts(batch);
        if is_terminal {
            bar.of(ended(batch), batch.total.into(), &line);
            return;
        }
        let is_due = told.as_ref().is_none_or(|(at, last)| at.elapsed() >= LINES && *last != line);
        if is_due {
            say(format!("  batch    {line}"));
            told = Some((Instant::now(), line));
        }
    };
    let explain = async {
        tokio::time::sleep(PATIENCE).await;
        if let Ok(now) = super::get(client, batch).await
            && now.counts.is_some_and(|counts| counts.running == 0)
            && ended(&now) == 0
            && let Some(line) = reason(client, &now).await
        {
            bar.above(&format!("  {line}"));
        }
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        ended = until_end(client, batch, tell) => ended?,
        () = explain => unreachable!("it never ends"),
    };
    bar.clear();
    Ok(ended)
}

/// The batch at its end.
pub(super) async fn until_end(
    client: &Client,
    batch: &str,
    mut tell: impl FnMut(&v1::Batch),
) -> Result<v1::Batch, Failure> {
    let request = v1::WatchBatchRequest { batch: batch.to_owned() };
    loop {
        let call = || {
            let (mut api, request) = (client.batches(), request.clone());
            async move { api.watch(request).await }
        };
        let mut messages = persist(client, call).await?;
        let mut last = None;
        loop {
            match messages.message().await {
                Ok(Some(message)) => {
                    let now = there(message.batch)?;
                    tell(&now);
                    last = Some(now);
                }
                Ok(None) => match last {
                    Some(batch) => return Ok(batch),
                    None => return Err(Failure::new("the controller told nothing of the batch")),
                },
                // The link broke: how it is now is asked anew.
                Err(status) if is_lost(&status) => break,
                Err(status) => return Err(client.failure(&status)),
            }
        }
    }
}

/// The last words on a batch, and the exit code: of its first row that did not succeed.
pub(in crate::commands) async fn end(
    client: &Client,
    batch: &v1::Batch,
    format: FormatArgs,
) -> anyhow::Result<i32> {
    let bad = unsuccessful(client, batch).await?;
    say(format!("ended: {}", counts(batch)));
    for line in rows(&bad, TOLD, &batch.id) {
        say(format!("  {line}"));
    }
    if bad.iter().any(|job| follow::state(job) != Some(JobState::Cancelled)) {
        say(format!("  try: longshore batches retry {}    (a new batch of the failed rows)", batch.id));
    }
    if format.is_for_scripts() {
        print(&format.item(&to_json("Batch", batch))?)?;
    }
    Ok(bad.first().map_or(0, exit_code))
}

/// Jobs of the batch that ended otherwise than well, by row.
pub(super) async fn unsuccessful(client: &Client, batch: &v1::Batch) -> Result<Vec<v1::Job>, Failure> {
    let counts = batch.counts.unwrap_or_default();
    if counts.failed + counts.timed_out + counts.cancelled == 0 {
        return Ok(Vec::new());
    }
    let states = [JobState::Failed, JobState::TimedOut, JobState::Cancelled];
    let mut jobs = jobs(client, batch, &states, usize::MAX).await?;
    jobs.sort_by_key(|job| job.batch_row);
    Ok(jobs)
}

/// Newest first.
async fn jobs(
    client: &Client,
    batch: &v1::Batch,
    states: &[JobState],
    limit: usize,
) -> Result<Vec<v1::Job>, Failure> {
    let states = states.iter().map(|state| v1::JobState::from(*state) as i32).collect();
    let filter = v1::JobFilter { states, batch: batch.id.clone(), ..v1::JobFilter::default() };
    ls::jobs(client, filter, limit).await
}

/// Why one that nobody runs waits.
pub(super) async fn reason(client: &Client, batch: &v1::Batch) -> Option<String> {
    let queued = jobs(client, batch, &[JobState::Queued], 1).await.ok()?.pop();
    let job = match queued {
        Some(job) => job,
        None => jobs(client, batch, &[JobState::Waiting], 1).await.ok()?.pop()?,
    };
    let waits = Some(&job.waits).filter(|waits| !waits.is_empty())?;
    Some(format!("waiting  row {} ({}): {waits}", job.batch_row, job.id))
}

/// `row 17 (k3m9q2xw) failed: … (exit_code)`
pub(super) fn rows(bad: &[v1::Job], most: usize, batch: &str) -> Vec<String> {
    let line = |job: &v1::Job| {
        let state = follow::state(job).map_or_else(String::new, |state| state.to_string().replace('_', " "));
        let why =
            job.outcome.as_ref().map(|outcome| format!(": {} ({})", detail(job, outcome), outcome.name));
        format!("row {} ({}) {state}{}", job.batch_row, job.id, why.unwrap_or_default())
    };
    let mut lines: Vec<_> = bad.iter().take(most).map(line).collect();
    if bad.len() > most {
        lines.push(format!("and {} more: longshore ls -a --batch {batch}", bad.len() - most));
    }
    lines
}

fn ended(batch: &v1::Batch) -> u64 {
    let counts = batch.counts.unwrap_or_default();
    let ended = [counts.succeeded, counts.failed, counts.timed_out, counts.cancelled, counts.removed];
    ended.into_iter().map(u64::from).sum()
}

/// `480 of 500 succeeded · 15 running · 5 failed`
pub(super) fn counts(batch: &v1::Batch) -> String {
    let counts = batch.counts.unwrap_or_default();
    let others = [
        (counts.running, "running"),
        (counts.queued, "queued"),
        (counts.waiting, "waiting"),
        (counts.failed, "failed"),
        (counts.timed_out, "timed out"),
        (counts.cancelled, "cancelled"),
        (counts.removed, "removed"),
    ];
    let others = others.into_iter().filter(|(count, _)| *count > 0);
    let first = format!("{} of {} succeeded", counts.succeeded, batch.total);
    others.fold(first, |text, (count, what)| format!("{text} · {count} {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::{job::Outcome, wire};

    fn batch() -> v1::Batch {
        let counts = v1::BatchCounts {
            running: 3,
            succeeded: 480,
            failed: 5,
            timed_out: 1,
            waiting: 11,
            ..Default::default()
        };
        v1::Batch { id: "k3m9q2xw".into(), total: 500, counts: Some(counts), ..v1::Batch::default() }
    }

    #[test]
    fn a_line_tells_what_there_is_and_no_zeros() {
        assert_eq!(
            counts(&batch()),
            "480 of 500 succeeded · 3 running · 11 waiting · 5 failed · 1 timed out"
        );
        assert_eq!(ended(&batch()), 486);
    }

    #[test]
    fn the_first_bad_rows_are_told_and_the_rest_counted() {
        let job = |row| v1::Job {
            id: format!("job{row}"),
            batch_row: row,
            state: v1::JobState::Failed as i32,
            outcome: Some(wire::outcome(&Outcome::ExitCode(3), "", "x")),
            ..v1::Job::default()
        };
        let lines = rows(&[job(4), job(9), job(11)], 2, "k3m9q2xw");
        assert!(
            lines[0].starts_with("row 4 (job4) failed: ") && lines[0].ends_with("(exit_code)"),
            "{lines:?}"
        );
        assert_eq!(lines[2], "and 1 more: longshore ls -a --batch k3m9q2xw");
    }
}
