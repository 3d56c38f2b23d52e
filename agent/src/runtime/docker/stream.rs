//! A container's output, byte-exact: attached before the start, forwarded as it comes. If the engine breaks the
//! stream, the rest is read from the engine's own log; if that fails too, a gap is reported, never passed over.

use super::{
    absence,
    engine::{Client, Engine, message},
    join::{self, Join, NoTime},
    labels,
    live::Live,
    outage::{Note, Outage},
    time,
};
use crate::runtime::{Chunk, ContainerId, Counts, Error};
use bollard::{
    container::LogOutput,
    query_parameters::{AttachContainerOptions, InspectContainerOptions, LogsOptions},
};
use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use longshore_common::{clock::Moment, logs::Stream};
use std::{
    path::PathBuf,
    sync::{Arc, PoisonError},
};
use tokio::sync::mpsc;

pub(super) type Raw = BoxStream<'static, Result<LogOutput, bollard::errors::Error>>;

/// Chunks in flight. The engine drops what it cannot hand over within two seconds of the end, so there is room
/// for a reader that is held up by its disk (32 KiB each).
pub(super) const CHUNKS: usize = 256;
const NO_TIME: &str = "a frame without its time";
/// How `docker-init`, and `runc` if it cannot run that, begin their only message.
const INIT_COMPLAINTS: [&[u8]; 3] = [b"[FATAL tini (", b"exec /", b"standard_init_linux.go:"];
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
    /// Bytes of the engine's log; without an outage the same as what the container wrote.
    seen: Counts,
    /// Bytes that were seen and that the engine has not logged.
    unlogged: Counts,
    /// A scratch folder.
    beside: Option<PathBuf>,
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
        Self {
            engine,
            container,
            live,
            out,
            seen,
            unlogged: Counts::default(),
            beside: None,
            head: Vec::new(),
        }
    }

    /// Runs until the container has ended and everything it wrote is forwarded. `None`: begin with the engine's log.
    pub(super) async fn run(mut self, attached: Option<Raw>) {
        let mut returns = self.live.returns();
        let mut stopped = match attached {
            Some(attached) => self.forward(attached).await,
            None => match self.outage_before().await {
                Some(outage) => self.go_on_after(outage).await,
                None => self.repeat(true).await,
            },
        };
        self.live.drained();
        let end = loop {
            if stopped == Stopped::Unread {
                return;
            }
            let live = Arc::clone(&self.live);
            tokio::select! {
                end = live.end() => break end,
                // `self.live` keeps the sender.
                _ = returns.changed() => stopped = match self.live.take_outage() {
                    Some(outage) => self.go_on_after(outage).await,
                    None => self.repeat(true).await,
                },
            }
        };
        // A container that the engine ended before it went has lost nothing.
        let ran_on = |outage: &Outage| end.is_ok_and(|exit| exit.finished_at > outage.lost_at);
        if let Some(outage) = self.live.take_outage().filter(ran_on) {
            stopped = self.catch_up(outage).await;
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
        if INIT_COMPLAINTS.iter().any(|begin| self.head.starts_with(begin)) {
            self.live.complain(&String::from_utf8_lossy(&self.head));
        }
    }

    /// What the engine's log has beyond what was seen.
    async fn repeat(&mut self, follow: bool) -> Stopped {
        match self.try_repeat(follow, None).await {
            Ok(stopped) => stopped,
            Err(reason) => self.gap(&reason).await,
        }
    }

    /// After the agent's start: an engine that went away since the container began, and nobody dealt with it. Puts right
    /// what was seen.
    async fn outage_before(&mut self) -> Option<Outage> {
        let client = self.engine.client().await.ok()?;
        let found = client.api.inspect_container(&self.container.0, None::<InspectContainerOptions>);
        let found = self.engine.look(found).await.ok()?.ok()?;
        let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
        self.beside = labels::scratch(&labels).into_iter().next();
        let note = Note::read(self.beside.as_deref());
        self.seen.stdout = self.seen.stdout.saturating_sub(note.unlogged.stdout);
        self.seen.stderr = self.seen.stderr.saturating_sub(note.unlogged.stderr);
        self.unlogged = note.unlogged;
        let started_at = found.state?.started_at.as_deref().and_then(time::parse)?;
        let (lost, now) = (client.tether.began()?, Moment::now());
        let older = absence::is_older(self.live.began(), started_at, lost);
        (older && !note.covers(lost)).then_some(Outage { lost_at: lost.at, returned_at: now.at })
    }

    async fn go_on_after(&mut self, outage: Outage) -> Stopped {
        match self.catch_up(outage).await {
            Stopped::Unread => Stopped::Unread,
            _ => self.repeat(true).await,
        }
    }

    /// What the engine has logged, with the gap where it was away.
    async fn catch_up(&mut self, outage: Outage) -> Stopped {
        match self.try_repeat(false, Some(outage)).await {
            Ok(stopped) => stopped,
            Err(reason) => self.gap(&reason).await,
        }
    }

    /// The log goes on as another process of the engine wrote it.
    async fn cross(&mut self, join: &mut Join, outage: Outage) -> Result<(), ()> {
        let unlogged = join.give_up();
        for (all, lost, seen) in [
            (&mut self.unlogged.stdout, unlogged.stdout, &mut self.seen.stdout),
            (&mut self.unlogged.stderr, unlogged.stderr, &mut self.seen.stderr),
        ] {
            *all += lost;
            *seen -= lost;
        }
        if self.beside.is_none() {
            self.beside = self.live.scratch.lock().unwrap_or_else(PoisonError::into_inner).first().cloned();
        }
        let until = Moment::now().earlier(outage.returned_at);
        let note = Note { unlogged: self.unlogged, until };
        if let Err(error) = note.write(self.beside.as_deref()) {
            tracing::warn!(%error, "an agent that is restarted now would repeat or skip lines");
        }
        let chunk = Chunk { stream: Stream::System, data: outage.line().into() };
        self.out.send(chunk).await.map_err(|_| ())
    }

    async fn try_repeat(&mut self, follow: bool, mut outage: Option<Outage>) -> Result<Stopped, String> {
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
            if let Some(crossed) = outage {
                let taken_at = join::taken_at(&frame).map_err(|NoTime| NO_TIME.to_owned())?;
                if taken_at > crossed.lost_at {
                    outage = None;
                    if self.cross(&mut join, crossed).await.is_err() {
                        return Ok(Stopped::Unread);
                    }
                }
            }
            let pieces = join.feed(stream, frame).map_err(|NoTime| NO_TIME.to_owned())?;
            for piece in pieces {
                if self.send(stream, piece).await.is_err() {
                    return Ok(Stopped::Unread);
                }
            }
        }
        if let Some(crossed) = outage
            && self.cross(&mut join, crossed).await.is_err()
        {
            return Ok(Stopped::Unread);
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
