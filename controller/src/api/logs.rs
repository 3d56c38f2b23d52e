//! `StreamLogs`: reads what is stored, then follows. Pulled by the client's flow control: a slow reader costs nothing.

use super::{Context, jobs, status, waiters::Waiter};
use crate::{
    identity::Caller,
    jobs::AttemptView,
    log_store::{self, LogKey},
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use longshore_common::{
    clock::Timestamp,
    ids::JobId,
    logs::{Stream as LogStream, decode},
    wire,
};
use longshore_proto::v1;
use std::{pin::Pin, sync::Arc};
use tokio::sync::watch;
use tonic::Status;

pub(super) type Messages = Pin<Box<dyn Stream<Item = Result<v1::StreamLogsResponse, Status>> + Send>>;

/// Bytes read, and so sent, at a time.
const CHUNK: usize = 256 << 10;

pub(super) async fn stream(
    context: &Arc<Context>,
    caller: &Caller,
    request: v1::StreamLogsRequest,
) -> Result<Messages, Status> {
    if request.tail.is_some() && request.offset != 0 {
        return Err(status::field("tail", "cannot go with an offset: the offset says where to begin"));
    }
    let mut streams = wire::streams("streams", &request.streams).map_err(status::invalid)?;
    if streams.is_empty() {
        streams = LogStream::ALL.to_vec();
    }
    let job = jobs::resolve(context, caller, &request.job).await?;
    let follower = Follower {
        context: Arc::clone(context),
        waiter: context.waiters.subscribe(job),
        job,
        over_retries: request.attempt == 0,
        follow: request.follow,
        since: request.since.as_ref().map(wire::timestamp_from),
        streams,
        at: None,
        done: 0,
        finished: false,
    };
    let follower = follower.begin(request.attempt, request.offset, request.tail).await?;
    let messages = stream::try_unfold(follower, |mut follower| async move {
        let message = follower.next().await?;
        Ok::<_, Status>(message.map(|message| (message, follower)))
    });
    Ok(messages.boxed())
}

struct Follower {
    context: Arc<Context>,
    job: JobId,
    waiter: Waiter,
    over_retries: bool,
    follow: bool,
    since: Option<Timestamp>,
    streams: Vec<LogStream>,
    /// `None`: between attempts.
    at: Option<Place>,
    /// The last attempt whose log was told to its end.
    done: u32,
    finished: bool,
}

struct Place {
    key: LogKey,
    offset: u64,
    end: watch::Receiver<u64>,
    /// The attempt's log does not grow any more.
    ended: bool,
}

impl Follower {
    async fn begin(mut self, attempt: u32, offset: u64, tail: Option<u32>) -> Result<Self, Status> {
        let last = self.context.jobs.get(self.job).await.map_err(status::jobs)?.attempts;
        if attempt > last {
            return Err(status::not_found(format!(
                "the job has {last} attempts; there is no attempt {attempt}"
            )));
        }
        let number = if attempt == 0 { last } else { attempt };
        if number == 0 {
            return Ok(self);
        }
        let key = self.attempt(number).await?.ok_or_else(removed)?.attempt.into();
        let start = match (tail, self.since) {
            (Some(lines), _) => log_store::tail(&*self.context.logs, key, lines, &self.streams).await,
            (None, Some(time)) if offset == 0 => log_store::since(&*self.context.logs, key, time).await,
            _ => Ok(offset),
        };
        self.enter(number, start.map_err(|error| status::logs(&error))?).await?;
        Ok(self)
    }

    async fn enter(&mut self, number: u32, offset: u64) -> Result<(), Status> {
        let attempt = self.attempt(number).await?.ok_or_else(removed)?;
        let (key, ended) = (attempt.attempt.into(), has_ended(&attempt));
        let end = self.context.logs.watch(key).await.map_err(|error| status::logs(&error))?;
        self.at = Some(Place { key, offset, end, ended });
        Ok(())
    }

    /// The next message; `None` at the end of all.
    async fn next(&mut self) -> Result<Option<v1::StreamLogsResponse>, Status> {
        while !self.finished {
            let Some(place) = &mut self.at else {
                match self.next_attempt().await? {
                    Some(message) => return Ok(Some(message)),
                    None => continue,
                }
            };
            // Seen before it is read, so that nothing that comes meanwhile is missed.
            place.end.mark_unchanged();
            let read = self.context.logs.read(place.key, place.offset, CHUNK).await;
            let bytes = read.map_err(|error| status::logs(&error))?;
            if !bytes.is_empty() {
                place.offset += bytes.len() as u64;
                let (next_offset, attempt) = (place.offset, place.key.0.number);
                let records = self.records(bytes)?;
                if records.is_empty() {
                    continue;
                }
                return Ok(Some(v1::StreamLogsResponse { records, next_offset, attempt, end: false }));
            }
            if place.ended || !self.follow {
                return Ok(self.leave());
            }
            self.wait().await?;
        }
        Ok(None)
    }

    /// Waits for an attempt after the last one. Answers the only message of a job that ended without any.
    async fn next_attempt(&mut self) -> Result<Option<v1::StreamLogsResponse>, Status> {
        self.waiter.take_changed();
        let job = self.context.jobs.get(self.job).await.map_err(status::jobs)?;
        if job.attempts > self.done {
            self.enter(self.done + 1, 0).await?;
            return Ok(None);
        }
        let over = job.state.is_terminal();
        if over || !self.follow {
            self.finished = true;
            let only = v1::StreamLogsResponse { end: over, ..v1::StreamLogsResponse::default() };
            return Ok((self.done == 0).then_some(only));
        }
        tokio::select! {
            () = self.waiter.changed() => Ok(None),
            () = self.context.shutdown.triggered() => Err(status::leaving()),
        }
    }

    /// Until the log grows or the attempt ends.
    async fn wait(&mut self) -> Result<(), Status> {
        let Some(place) = &mut self.at else { return Ok(()) };
        let number = place.key.0.number;
        let job_changed = tokio::select! {
            _ = place.end.changed() => false,
            () = self.waiter.changed() => true,
            () = self.context.shutdown.triggered() => return Err(status::leaving()),
        };
        if job_changed {
            // The end is read after the attempt's state: bytes stored before it ended are still found.
            let ended = self.attempt(number).await?.as_ref().is_none_or(has_ended);
            if let Some(place) = &mut self.at {
                place.ended = ended;
            }
        }
        Ok(())
    }

    /// The last message of an attempt.
    fn leave(&mut self) -> Option<v1::StreamLogsResponse> {
        let place = self.at.take()?;
        self.done = place.key.0.number;
        self.finished = !(self.follow && self.over_retries);
        Some(v1::StreamLogsResponse {
            records: Vec::new(),
            next_offset: place.offset,
            attempt: place.key.0.number,
            end: place.ended,
        })
    }

    async fn attempt(&self, number: u32) -> Result<Option<AttemptView>, Status> {
        let attempts = self.context.jobs.attempts(self.job).await.map_err(status::jobs)?;
        Ok(attempts.into_iter().find(|attempt| attempt.attempt.number == number))
    }

    fn records(&self, mut bytes: Bytes) -> Result<Vec<v1::LogRecord>, Status> {
        let mut records = Vec::new();
        while let Some((record, used)) = decode(&bytes).map_err(|error| status::logs(&error.into()))? {
            bytes = bytes.slice(used..);
            let wanted = self.streams.contains(&record.header.stream)
                && self.since.is_none_or(|since| record.header.time >= since);
            if wanted {
                records.push(record.into());
            }
        }
        Ok(records)
    }
}

fn has_ended(attempt: &AttemptView) -> bool {
    attempt.finished_at.is_some() || attempt.state.is_terminal()
}

fn removed() -> Status {
    status::not_found("the job was removed, and its log with it")
}
