//! One session: input in, masked output out, until the process, its container, its caller or its time ends.

use crate::{
    attempt::Open,
    link,
    logs::{Masker, Veil},
    runtime::{Chunk, Inside, Output, Process, Runtime},
};
use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use longshore_common::{
    exec::{Asked, End, Start, Told},
    logs::Stream,
    units::HumanDuration,
};
use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
    time::{Instant, timeout},
};

const FIRST_WORD: Duration = Duration::from_secs(10);
/// What may be part of a secret is shown when nothing more came for so long: a person waits for the prompt.
const SETTLE: Duration = Duration::from_millis(100);
/// A process that has ended may have given its streams to another.
const LAST_WORDS: Duration = Duration::from_secs(2);

type Down = BoxStream<'static, Result<Asked, link::Error>>;
type Input = Option<Pin<Box<dyn AsyncWrite + Send>>>;

pub(super) struct Bounds {
    pub(super) idle: Duration,
    pub(super) longest: Duration,
}

pub(super) struct Session<'a> {
    pub(super) runtime: &'a dyn Runtime,
    pub(super) open: Open,
    pub(super) up: mpsc::Sender<Told>,
    pub(super) bounds: Bounds,
}

/// When something moved last.
#[derive(Debug)]
struct Moved(Mutex<Instant>);

impl Moved {
    fn now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Returns when nothing has moved for so long.
    async fn still(&self, length: Duration) {
        loop {
            let due = *self.0.lock().unwrap_or_else(PoisonError::into_inner) + length;
            if due <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

impl Session<'_> {
    /// Returns when nothing of it is left.
    pub(super) async fn run(mut self, down: &mut Down) -> End {
        let start = match timeout(FIRST_WORD, down.next()).await {
            Ok(Some(Ok(Asked::Start(start)))) => start,
            _ => return End::otherwise("nobody said what to start"),
        };
        let Inside { output, input, process } = match self.runtime.exec(&self.open.container, &start).await {
            Ok(inside) => inside,
            Err(error) => return error.into(),
        };
        let line = self.open.masker.line(&format!("exec by {}: {}", start.by, start.shown()));
        // A log that cannot keep up has worse to miss; the audit log has it too.
        drop(self.open.lines.try_send(line));
        let end = self.carry(down, output, input, &start, &process).await;
        if let Err(error) = process.kill().await {
            tracing::warn!(%error, container = %self.open.container.0, "of an exec session something is left");
        }
        end
    }

    async fn carry(
        &mut self,
        down: &mut Down,
        output: Output,
        input: Input,
        start: &Start,
        process: &Arc<dyn Process>,
    ) -> End {
        let moved = Moved(Mutex::new(Instant::now()));
        let longest = tokio::time::sleep(self.bounds.longest);
        let (up, over) = (self.up.clone(), self.open.over.clone());
        let speak = async {
            drop(up.send(Told::Started).await);
            speak(output, start.tty, &self.open.masker, &up, &moved, &**process).await
        };
        let why = |length: Duration, what: &str| End::otherwise(format!("{what} {}", HumanDuration(length)));
        tokio::select! {
            end = speak => match end {
                // The engine takes it down with the container, and says that it was killed.
                Ok(_) if over.is_cancelled() => container_ended(),
                Ok(code) => self.by_itself(code).await,
                Err(error) => error.into(),
            },
            () = over.cancelled() => container_ended(),
            cause = self.open.stop.beyond(None) => {
                let why = cause.verdict().map(|(_, why)| why);
                End::otherwise(format!("the job is stopped: {}", why.as_deref().unwrap_or("another agent has it now")))
            }
            () = listen(down, input, &**process, &moved) => End::otherwise("whoever asked has gone"),
            () = self.up.closed() => End::otherwise("the link to the controller broke"),
            () = moved.still(self.bounds.idle) => why(self.bounds.idle, "nothing moved for"),
            () = longest => why(self.bounds.longest, "a session lasts at most"),
        }
    }

    /// Or because its container has just ended.
    async fn by_itself(&self, code: i32) -> End {
        match self.runtime.runs_since(&self.open.container).await {
            Ok(None) => container_ended(),
            _ => End { code, reason: String::new() },
        }
    }
}

fn container_ended() -> End {
    End::otherwise("the job's container has ended")
}

/// What the caller says. Returns when the caller has gone.
async fn listen(down: &mut Down, mut input: Input, process: &dyn Process, moved: &Moved) {
    while let Some(Ok(asked)) = down.next().await {
        moved.now();
        match asked {
            Asked::Stdin(data) => {
                if let Some(open) = &mut input
                    && (open.write_all(&data).await.is_err() || open.flush().await.is_err())
                {
                    // It reads no more. Its end is its own.
                    input = None;
                }
            }
            Asked::StdinEnd => {
                if let Some(mut open) = input.take() {
                    drop(open.shutdown().await);
                }
            }
            Asked::Resize(size) => {
                if let Err(error) = process.resize(size).await {
                    tracing::debug!(%error, "a terminal keeps its size");
                }
            }
            Asked::Start(_) => {}
            Asked::HangUp => return,
        }
    }
}

/// Its output to its end, then its code.
async fn speak(
    Output(mut output): Output,
    tty: bool,
    masker: &Masker,
    up: &mpsc::Sender<Told>,
    moved: &Moved,
    process: &dyn Process,
) -> Result<i32, crate::runtime::Error> {
    let mut veils = [Veil::new(masker), Veil::new(masker)];
    let exit = process.exit();
    tokio::pin!(exit);
    let mut code = None;
    loop {
        let holding = veils.iter().any(Veil::is_holding);
        let patience = if code.is_some() { LAST_WORDS } else { SETTLE };
        tokio::select! {
            biased;
            chunk = output.recv() => match chunk {
                Some(Chunk { stream, data }) => {
                    moved.now();
                    let at = usize::from(stream == Stream::Stderr && !tty);
                    let shown = veils[at].push(&data);
                    say(up, at, shown).await;
                }
                None => break,
            },
            ended = &mut exit, if code.is_none() => code = Some(ended?),
            () = tokio::time::sleep(patience), if holding || code.is_some() => {
                if code.is_some() {
                    break;
                }
                settle(&mut veils, up).await;
            }
        }
    }
    settle(&mut veils, up).await;
    match code {
        Some(code) => Ok(code),
        None => exit.await,
    }
}

async fn settle(veils: &mut [Veil; 2], up: &mpsc::Sender<Told>) {
    for (at, veil) in veils.iter_mut().enumerate() {
        let shown = veil.settle();
        say(up, at, shown).await;
    }
}

async fn say(up: &mpsc::Sender<Told>, at: usize, shown: Vec<u8>) {
    if shown.is_empty() {
        return;
    }
    let shown = Bytes::from(shown);
    // One that has gone is noticed by whoever waits for that.
    drop(up.send(if at == 0 { Told::Stdout(shown) } else { Told::Stderr(shown) }).await);
}
