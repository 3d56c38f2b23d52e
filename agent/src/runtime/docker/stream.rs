//! A container's output, byte-exact: attached before the start, forwarded as it comes. If the engine breaks the
//! stream, the rest is read from the engine's own log; if that fails too, a gap is reported, never passed over.

use super::{
    engine::{Client, Engine, message},
    join::Join,
    live::Live,
};
use crate::runtime::{Chunk, ContainerId, Counts, Error};
use bollard::{
    container::LogOutput,
    query_parameters::{AttachContainerOptions, LogsOptions},
};
use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use longshore_common::logs::Stream;
use std::sync::Arc;
use tokio::sync::mpsc;

pub(super) type Raw = BoxStream<'static, Result<LogOutput, bollard::errors::Error>>;

/// Chunks in flight. The engine drops what it cannot hand over within two seconds of the end, so there is room
/// for a reader that is held up by its disk (32 KiB each).
pub(super) const CHUNKS: usize = 256;
/// How `docker-init` begins its only message.
const INIT_COMPLAINT: &[u8] = b"[FATAL tini (";
/// Longer than a path may be.
const COMPLAINT: usize = 4608;

/// Attached, before the start. Nothing written afterwards is missed.
pub(super) async fn attach(client: &Client, container: &ContainerId) -> Result<Raw, bollard::errors::Error> {
    let options = AttachContainerOptions { stream: true, stdout: true, stderr: true, ..Default::default() };
    let attached = client.api.attach_container(&container.0, Some(options)).await?;
    Ok(attached.output)
}

/// Reads one container's output from wherever it can be had.
pub(super) struct Follower {
    engine: Arc<Engine>,
    container: ContainerId,
    live: Arc<Live>,
    out: mpsc::Sender<Chunk>,
    seen: Counts,
    /// The first bytes of stderr.
    head: Vec<u8>,
}

/// How a stream stopped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stopped {
    /// The engine closed it in order.
    Ended,
    Broken,
    /// Nobody reads any more.
    Unread,
}

impl Follower {
    pub(super) fn new(
        engine: Arc<Engine>,
        container: ContainerId,
        live: Arc<Live>,
        out: mpsc::Sender<Chunk>,
        seen: Counts,
    ) -> Self {
        Self { engine, container, live, out, seen, head: Vec::new() }
    }

    /// Runs until the container has ended and everything it wrote is forwarded. `None`: begin with the engine's log.
    pub(super) async fn run(mut self, attached: Option<Raw>) {
        let mut returns = self.live.returns();
        let mut stopped = match attached {
            Some(attached) => self.forward(attached).await,
            None => self.repeat(true).await,
        };
        self.live.drained();
        loop {
            if stopped == Stopped::Unread {
                return;
            }
            let live = Arc::clone(&self.live);
            tokio::select! {
                _ = live.end() => break,
                // `self.live` keeps the sender.
                _ = returns.changed() => stopped = self.repeat(true).await,
            }
        }
        if stopped == Stopped::Broken || self.live.lost_engine() || self.live.started_before() {
            // Also after a clean end: who follows the engine's log can miss an unterminated last line.
            self.repeat(false).await;
        }
    }

    async fn forward(&mut self, mut raw: Raw) -> Stopped {
        while let Some(item) = raw.next().await {
            let Ok(item) = item else { return Stopped::Broken };
            let Some((stream, data)) = split(item) else { return Stopped::Broken };
            if stream == Stream::Stderr {
                self.listen(&data);
            }
            if self.send(stream, data).await.is_err() {
                return Stopped::Unread;
            }
        }
        Stopped::Ended
    }

    /// Keeps the beginning of stderr: `docker-init` complains in several writes, which come as several frames.
    fn listen(&mut self, data: &[u8]) {
        let room = COMPLAINT.saturating_sub(self.head.len());
        if room == 0 {
            return;
        }
        self.head.extend_from_slice(&data[..data.len().min(room)]);
        if self.head.starts_with(INIT_COMPLAINT) {
            self.live.complain(&String::from_utf8_lossy(&self.head));
        }
    }

    /// What the engine's log has beyond what was seen.
    async fn repeat(&mut self, follow: bool) -> Stopped {
        match self.try_repeat(follow).await {
            Ok(stopped) => stopped,
            Err(reason) => self.gap(&reason).await,
        }
    }

    async fn try_repeat(&mut self, follow: bool) -> Result<Stopped, String> {
        let client = match self.engine.client().await {
            Ok(client) => client,
            // Away again: it will be back, and nothing is lost yet.
            Err(Error::Unreachable(_)) if follow => return Ok(Stopped::Broken),
            Err(error) => return Err(error.to_string()),
        };
        let options = LogsOptions {
            follow,
            stdout: true,
            stderr: true,
            timestamps: true,
            tail: "all".to_owned(),
            ..Default::default()
        };
        let mut log = std::pin::pin!(client.api.logs(&self.container.0, Some(options)));
        let mut join = Join::skipping(self.seen);
        while let Some(item) = log.next().await {
            let item = match item {
                Ok(item) => item,
                Err(_) if follow => return Ok(Stopped::Broken),
                Err(error) => return Err(message(&error)),
            };
            let Some((stream, frame)) = split(item) else { return Err("unknown frame".to_owned()) };
            let pieces = join.feed(stream, frame).map_err(|_| "a frame without its time".to_owned())?;
            for piece in pieces {
                if self.send(stream, piece).await.is_err() {
                    return Ok(Stopped::Unread);
                }
            }
        }
        match join.missing() {
            0 => Ok(Stopped::Ended),
            bytes => Err(format!("its log is {bytes} bytes shorter than what was read before")),
        }
    }

    async fn gap(&self, reason: &str) -> Stopped {
        let line = format!("gap: output may be missing here, the engine's log cannot be read ({reason})\n");
        let chunk = Chunk { stream: Stream::System, data: line.into() };
        if self.out.send(chunk).await.is_err() { Stopped::Unread } else { Stopped::Ended }
    }

    async fn send(&mut self, stream: Stream, data: Bytes) -> Result<(), ()> {
        if data.is_empty() {
            return Ok(());
        }
        *self.seen.of(stream) += data.len() as u64;
        self.out.send(Chunk { stream, data }).await.map_err(|_| ())
    }
}

fn split(item: LogOutput) -> Option<(Stream, Bytes)> {
    match item {
        LogOutput::StdOut { message } => Some((Stream::Stdout, message)),
        LogOutput::StdErr { message } => Some((Stream::Stderr, message)),
        // A frame that was cut off, or a terminal's.
        LogOutput::Console { .. } | LogOutput::StdIn { .. } => None,
    }
}
