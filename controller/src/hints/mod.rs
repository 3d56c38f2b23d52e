//! What to do about a job that did not succeed: rules as data, tried on its outcome, its last lines and what it used.
//! Pure. A rule never changes an outcome, and none is more than a guess with a reason.

mod rules;
#[cfg(test)]
mod tests;

use crate::{
    jobs::AttemptView,
    log_store::{self, LogStore},
};
use longshore_common::{
    agent::Usage,
    job::{JobSpec, Outcome},
    logs::{Stream, decode},
};

/// Lines that are looked at, and bytes of each.
const LINES: u32 = 50;
const LINE: usize = 2_000;
const LOG: usize = 256 << 10;

/// What is known about an end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) outcome: &'a Outcome,
    pub(crate) detail: &'a str,
    pub(crate) spec: &'a JobSpec,
    pub(crate) usage: &'a Usage,
    /// The last ones, oldest first.
    pub(crate) lines: &'a [String],
}

/// One piece of advice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hint {
    pub(crate) name: &'static str,
    pub(crate) text: String,
    /// The line that it is about.
    pub(crate) line: Option<String>,
}

/// The advice for an end, the surest first.
pub(crate) fn assess(facts: &Facts<'_>) -> Vec<Hint> {
    if matches!(facts.outcome, Outcome::Succeeded | Outcome::Cancelled) {
        return Vec::new();
    }
    let lines: Vec<_> = facts.lines.iter().map(|line| line.to_lowercase()).collect();
    let detail = facts.detail.to_lowercase();
    let mut hints: Vec<Hint> = Vec::new();
    for rule in rules::RULES {
        let by_outcome = rule.outcomes.contains(&facts.outcome.name());
        let line = lines.iter().rposition(|line| rule.matches(line));
        let told = line.is_some() || rule.matches(&detail);
        let fits = rule.when.is_none_or(|when| when(facts));
        let known = hints.iter().any(|hint| hint.name == rule.name);
        if (by_outcome || told) && fits && !known {
            let line = line.map(|at| facts.lines[at].clone());
            hints.push(Hint { name: rule.name, text: rule.text.to_owned(), line });
        }
    }
    hints
}

/// The last lines that an attempt's container wrote, as far as they can be read.
pub(crate) async fn last_lines(logs: &dyn LogStore, attempt: &AttemptView) -> Vec<String> {
    let key = attempt.attempt.into();
    let wanted = [Stream::Stdout, Stream::Stderr];
    let Ok(from) = log_store::tail(logs, key, LINES, &wanted).await else { return Vec::new() };
    let (mut read, mut at) = (0, from);
    // What one of them wrote last is not cut by what the other wrote.
    let mut streams = [Vec::new(), Vec::new()];
    while read < LOG {
        let Ok(mut bytes) = logs.read(key, at, LOG).await else { break };
        if bytes.is_empty() {
            break;
        }
        at += bytes.len() as u64;
        read += bytes.len();
        while let Ok(Some((record, used))) = decode(&bytes) {
            bytes = bytes.slice(used..);
            let Some(stream) = wanted.iter().position(|stream| *stream == record.header.stream) else {
                continue;
            };
            streams[stream].extend_from_slice(&record.data);
        }
    }
    let lines = streams.iter().flat_map(|bytes| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        text.split(['\n', '\r']).map(|line| line.chars().take(LINE).collect()).collect::<Vec<String>>()
    });
    lines.filter(|line| !line.trim().is_empty()).collect()
}
