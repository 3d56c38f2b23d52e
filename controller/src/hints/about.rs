//! Gathers what the rules look at: the end of a job and the last lines of its log. A log that cannot be read is no
//! reason for no advice.

use super::{Facts, Hint, assess};
use crate::{
    jobs::{AttemptView, JobView},
    log_store::{self, LogStore},
};
use longshore_common::{
    job::Outcome,
    logs::{Stream, decode},
};

/// Lines that are looked at, and bytes of each.
const LINES: u32 = 50;
const LINE: usize = 2_000;
const LOG: usize = 256 << 10;

/// What to do about the end of one that ended badly.
pub(crate) async fn about(job: &JobView, attempts: &[AttemptView], logs: &dyn LogStore) -> Vec<Hint> {
    let Some(ending) = job.ending.as_ref().filter(|ending| ending.outcome != Outcome::Succeeded) else {
        return Vec::new();
    };
    let (notes, lines) = match attempts.last() {
        Some(last) => (&last.notes[..], last_lines(logs, last).await),
        None => (&[][..], Vec::new()),
    };
    assess(&Facts { outcome: &ending.outcome, detail: &ending.detail, spec: &job.spec, notes, lines: &lines })
}

/// The last lines that an attempt's container wrote, as far as they can be read.
async fn last_lines(logs: &dyn LogStore, attempt: &AttemptView) -> Vec<String> {
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
