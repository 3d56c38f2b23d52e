//! A job's log and state as they change, over lost links and controllers that restart. Never cancels anything.

use crate::client::{Client, is_lost};
use crate::failure::Failure;
use crate::output::say;
use longshore_common::logs::{Record, Stream};
use longshore_common::{job::JobState, retry::Backoff, wire};
use longshore_proto::v1;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{future::Future, io::Write as _, sync::Arc, time::Duration};
use tonic::{Response, Status};

/// Longer than a controller waits before it answers.
const WAIT: Duration = Duration::from_secs(30);

/// Whether the job will change no more.
pub(crate) fn is_ended(job: &v1::Job) -> bool {
    state(job).is_some_and(JobState::is_terminal)
}

/// The job's state; `None` if this client is older than the state.
pub(crate) fn state(job: &v1::Job) -> Option<JobState> {
    wire::job_state("state", job.state).ok()
}

/// Calls until there is an answer. A person is told once that the link is lost, and that it is back.
pub(crate) async fn persist<T, F>(client: &Client, mut call: impl FnMut() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    for tries in 0_u64.. {
        match call().await {
            Ok(answer) => {
                if client.link().is_back() {
                    say("  link     back");
                }
                return Ok(answer.into_inner());
            }
            Err(status) if is_lost(&status) => {
                // A restart takes a moment; only what takes longer is worth a line.
                if tries == 3 && client.link().is_newly_lost() {
                    say("  link     the controller does not answer; the job is not affected; trying again");
                }
                backoff.wait().await;
            }
            Err(status) => return Err(client.failure(&status)),
        }
    }
    unreachable!("the loop counts to the end of time")
}

/// The job, once it changed past `revision` or ended; or as it is, after half a minute.
pub(crate) async fn next_change(client: &Client, job: &str, revision: u64) -> Result<v1::Job, Failure> {
    let request = v1::WaitJobRequest {
        job: job.to_owned(),
        timeout: Some(wire::duration_to(WAIT)),
        after_revision: revision,
    };
    let call = || {
        let (mut jobs, request) = (client.jobs(), request.clone());
        async move { jobs.wait(request).await }
    };
    let answer = persist(client, call).await?;
    wire::required("job", answer.job).map_err(|error| Failure::new(error.to_string()))
}

/// The job at its end.
pub(crate) async fn end(client: &Client, job: &str) -> Result<v1::Job, Failure> {
    loop {
        let job = next_change(client, job, 0).await?;
        if is_ended(&job) {
            return Ok(job);
        }
    }
}

/// Which part of a job's log is wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogRequest {
    pub(crate) job: String,
    /// 0: the last one, and those after it when following.
    pub(crate) attempt: u32,
    pub(crate) follow: bool,
    pub(crate) tail: Option<u32>,
    pub(crate) since: Option<prost_types::Timestamp>,
}

/// Writes the log until its end; when following, over all attempts that come.
pub(crate) async fn logs(client: &Client, request: LogRequest, printer: &mut Printer) -> anyhow::Result<()> {
    let over_retries = request.attempt == 0 && request.follow;
    let mut ask = v1::StreamLogsRequest {
        job: request.job.clone(),
        attempt: request.attempt,
        follow: request.follow,
        tail: request.tail,
        since: request.since,
        ..v1::StreamLogsRequest::default()
    };
    loop {
        let ended = stream(client, &mut ask, printer).await?;
        if !ended {
            // The link broke: `ask` names where to go on.
            continue;
        }
        if !over_retries {
            return Ok(());
        }
        // The attempt that was resumed by its number is over: is there another one?
        let mut job = next_change(client, &request.job, 0).await?;
        while job.attempts <= ask.attempt && !is_ended(&job) {
            job = next_change(client, &request.job, job.revision).await?;
        }
        if job.attempts <= ask.attempt {
            return Ok(());
        }
        ask = v1::StreamLogsRequest {
            job: request.job.clone(),
            attempt: ask.attempt + 1,
            follow: true,
            ..v1::StreamLogsRequest::default()
        };
    }
}

/// One stream, to its end or to where the link broke; `ask` then names the place to go on.
async fn stream(
    client: &Client,
    ask: &mut v1::StreamLogsRequest,
    printer: &mut Printer,
) -> anyhow::Result<bool> {
    let call = || {
        let (mut jobs, request) = (client.jobs(), ask.clone());
        async move { jobs.stream_logs(request).await }
    };
    let mut messages = persist(client, call).await?;
    loop {
        match messages.message().await {
            Ok(Some(message)) => {
                for record in message.records {
                    printer.add(&record.try_into()?);
                }
                printer.flush().await?;
                if message.attempt != 0 {
                    ask.attempt = message.attempt;
                    ask.offset = message.next_offset;
                    (ask.tail, ask.since) = (None, None);
                }
            }
            Ok(None) => return Ok(true),
            Err(status) if is_lost(&status) => return Ok(false),
            Err(status) => return Err(client.failure(&status).into()),
        }
    }
}

/// A line that is said once, whoever sees the reason first.
#[derive(Debug)]
pub(crate) struct Announcement {
    line: String,
    told: AtomicBool,
}

impl Announcement {
    pub(crate) const fn new(line: String) -> Self {
        Self { line, told: AtomicBool::new(false) }
    }

    pub(crate) fn tell(&self) {
        if !self.told.swap(true, Ordering::Relaxed) && !self.line.is_empty() {
            say(&self.line);
        }
    }
}

/// Where log records go: the container's stdout to ours and nothing else to it.
#[derive(Debug, Default)]
pub(crate) struct Printer {
    timestamps: bool,
    /// Go on without a reader: the job is what matters.
    outlive_reader: bool,
    /// In the order the records came, so that a terminal shows them so.
    pending: Vec<(Target, Vec<u8>)>,
    /// The last record of stdout and of stderr ended inside a line.
    inside: [bool; 2],
    /// Nobody reads stdout any more.
    closed: bool,
    /// Said before the first output of the container.
    first: Option<Arc<Announcement>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Out,
    Err,
}

impl Printer {
    pub(crate) fn new(timestamps: bool, outlive_reader: bool) -> Self {
        Self { timestamps, outlive_reader, ..Self::default() }
    }

    /// Output may come sooner than the news that the container runs.
    pub(crate) fn before_output(mut self, announcement: Arc<Announcement>) -> Self {
        self.first = Some(announcement);
        self
    }

    fn add(&mut self, record: &Record) {
        let stamp = self.timestamps.then(|| format!("{} ", wire::timestamp_to(record.header.time)));
        let ends = record.data.ends_with(b"\n") || record.data.ends_with(b"\r");
        let (target, index) = match record.header.stream {
            Stream::Stdout => (Target::Out, 0),
            Stream::Stderr => (Target::Err, 1),
            Stream::System => {
                let text = String::from_utf8_lossy(&record.data);
                // A progress bar of the container's is not torn apart.
                let start = if self.inside[1] { "\n" } else { "" };
                self.inside[1] = false;
                let line = format!("{start}  {}{}\n", stamp.unwrap_or_default(), aligned(text.trim_end()));
                self.push(Target::Err, line.as_bytes());
                return;
            }
        };
        if let Some(first) = self.first.take() {
            // What was added so far is the agent's; it stands above.
            drop(write(&std::mem::take(&mut self.pending)));
            first.tell();
        }
        if let Some(stamp) = stamp.filter(|_| !self.inside[index]) {
            self.push(target, stamp.as_bytes());
        }
        self.inside[index] = !ends;
        self.push(target, &record.data);
    }

    fn push(&mut self, target: Target, bytes: &[u8]) {
        if target == Target::Out && self.closed {
            return;
        }
        match self.pending.last_mut() {
            Some((last, buffer)) if *last == target => buffer.extend_from_slice(bytes),
            _ => self.pending.push((target, bytes.to_vec())),
        }
    }

    /// Writes what was added. A reader that does not read holds up the log, never Ctrl-C.
    async fn flush(&mut self) -> anyhow::Result<()> {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            return Ok(());
        }
        match tokio::task::spawn_blocking(move || write(&pending)).await? {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe && self.outlive_reader => {
                self.closed = true;
                Ok(())
            }
            written => Ok(written?),
        }
    }
}

/// The agent's steps stand in one column with those of this command.
fn aligned(text: &str) -> String {
    match text.split_once(' ') {
        Some((step @ ("image" | "fetch" | "collect" | "pull"), rest)) => {
            format!("{step:<8} {}", rest.trim_start())
        }
        _ => text.to_owned(),
    }
}

fn write(pending: &[(Target, Vec<u8>)]) -> std::io::Result<()> {
    for (target, bytes) in pending {
        match target {
            Target::Out => {
                let mut out = std::io::stdout().lock();
                out.write_all(bytes)?;
                out.flush()?;
            }
            // What cannot be said is not an error.
            Target::Err => drop(std::io::stderr().lock().write_all(bytes)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::{clock::Timestamp, logs::RecordHeader};

    fn record(stream: Stream, text: &str) -> Record {
        let header = RecordHeader { sequence: 0, time: Timestamp::from_micros(0), stream, partial: false };
        Record { header, data: text.to_owned().into() }
    }

    fn printed(timestamps: bool, records: &[(Stream, &str)]) -> (String, String) {
        let mut printer = Printer::new(timestamps, false);
        for (stream, text) in records {
            printer.add(&record(*stream, text));
        }
        let all = |wanted: Target| {
            let parts = printer.pending.iter().filter(|(target, _)| *target == wanted);
            parts.map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned()).collect()
        };
        (all(Target::Out), all(Target::Err))
    }

    #[test]
    fn stdout_carries_the_containers_stdout_and_nothing_else() {
        let records = [
            (Stream::System, "image ready"),
            (Stream::Stdout, "12%\r"),
            (Stream::Stderr, "warn"),
            (Stream::System, "collecting\n"),
            (Stream::Stdout, "done"),
        ];
        assert_eq!(
            printed(false, &records),
            ("12%\rdone".to_owned(), "  image    ready\nwarn\n  collecting\n".to_owned())
        );
    }

    #[test]
    fn a_time_stands_before_each_line_not_before_each_piece() {
        let records = [(Stream::Stdout, "a"), (Stream::Stdout, "b\n"), (Stream::Stdout, "c\n")];
        let (out, _) = printed(true, &records);
        assert_eq!(out, "1970-01-01T00:00:00Z ab\n1970-01-01T00:00:00Z c\n");
    }
}
