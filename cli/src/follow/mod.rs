//! A job's log and state as they change, over lost links and controllers that restart. Never cancels anything.

mod printer;

pub(crate) use printer::{Announcement, Printer, Screen};

use crate::client::{Client, is_lost};
use crate::failure::Failure;
use crate::output::say;
use longshore_common::{job::JobState, retry::Backoff, wire};
use longshore_proto::v1;
use std::{future::Future, time::Duration};
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
                printer.begin(message.attempt);
                for record in message.records {
                    printer.add(&record.try_into()?)?;
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
