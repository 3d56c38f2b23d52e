//! Another process in a running container. The engine starts it and has no call that ends it: that is done from the
//! host, by its marks in `/proc`. Its streams go over a connection of their own, whose bytes are not looked at.

use super::{
    descendants,
    engine::{Engine, message, status},
};
use crate::runtime::{Chunk, ContainerId, Error, Inside, Output, Process};
use async_trait::async_trait;
use bollard::exec::{CreateExecOptions, ResizeExecOptions};
use bytes::{Buf as _, Bytes, BytesMut};
use longshore_common::{
    exec::{Size, Start},
    job::Outcome,
    logs::Stream,
    retry::Backoff,
    tasks,
};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::mpsc,
};

/// Chunks on their way out. Whoever reads slowly holds the process up.
const CHUNKS: usize = 16;
const CHUNK: usize = 32 << 10;
/// Longer than any head of an answer.
const HEAD: usize = 16 << 10;
/// For the engine to say that a process runs whose start it was asked for.
const STARTED: Duration = Duration::from_secs(10);
/// After which a process that somebody kills is let be.
const STUBBORN: Duration = Duration::from_secs(15);

pub(super) async fn start(
    engine: &Arc<Engine>,
    container: &ContainerId,
    start: &Start,
) -> Result<Inside, Error> {
    let client = engine.client().await?;
    let mark = descendants::mark();
    let env = start.env.iter().map(|(name, value)| format!("{name}={value}"));
    let options = CreateExecOptions {
        attach_stdin: Some(start.stdin),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(start.tty),
        env: Some(env.chain([mark.clone()]).collect()),
        cmd: Some(start.command.clone()),
        user: start.user.clone(),
        working_dir: start.workdir.clone(),
        ..CreateExecOptions::default()
    };
    let made = client.api.create_exec(&container.0, options).await.map_err(|error| match status(&error) {
        Some(404 | 409) => ended(),
        _ => engine.failed("make the process", &error),
    })?;
    let process =
        Exec { engine: Arc::clone(engine), container: container.clone(), id: made.id, mark, tty: start.tty };
    let stream = process.begin(&client.facts.api).await?;
    if let Some(size) = start.size.filter(|_| start.tty) {
        process.first_size(size).await;
    }
    let (read, write) = stream.into_split();
    let (chunks, output) = mpsc::channel(CHUNKS);
    drop(tasks::spawn("exec output", forward(read, start.tty, chunks)));
    let input: Option<std::pin::Pin<Box<dyn tokio::io::AsyncWrite + Send>>> =
        if start.stdin { Some(Box::pin(write)) } else { hold(write) };
    Ok(Inside { output: Output(output), input, process: Arc::new(process) })
}

/// The engine would take the end of this half for a hang-up only if there was an input: there is none.
fn hold(
    write: tokio::net::unix::OwnedWriteHalf,
) -> Option<std::pin::Pin<Box<dyn tokio::io::AsyncWrite + Send>>> {
    write.forget();
    None
}

fn ended() -> Error {
    Error::ends(Outcome::RuntimeError, "the container does not run any more")
}

#[derive(Debug)]
struct Exec {
    engine: Arc<Engine>,
    container: ContainerId,
    id: String,
    /// In the environment of the process and of all that inherit it.
    mark: String,
    tty: bool,
}

impl Exec {
    /// Starts it, and answers the connection with its bytes.
    async fn begin(&self, api: &str) -> Result<UnixStream, Error> {
        let lost =
            |error: io::Error| Error::Unreachable(format!("Docker at {}: {error}", self.engine.socket()));
        let mut stream = UnixStream::connect(self.engine.socket()).await.map_err(lost)?;
        let body = format!("{{\"Detach\":false,\"Tty\":{}}}", self.tty);
        let request = format!(
            "POST /v{api}/exec/{}/start HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\n\
             Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: {}\r\n\r\n{body}",
            self.id,
            body.len()
        );
        stream.write_all(request.as_bytes()).await.map_err(lost)?;
        let head = head(&mut stream).await.map_err(lost)?;
        match code(&head) {
            Some(101 | 200) => Ok(stream),
            Some(404 | 409) => Err(ended()),
            _ => {
                let said = head.lines().next().unwrap_or_default().to_owned();
                Err(Error::ends(Outcome::RuntimeError, format!("start the process: {said}")))
            }
        }
    }

    /// The engine takes a size only once the process runs.
    async fn first_size(&self, size: Size) {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(200));
        let tried = async {
            while self.resize(size).await.is_err() && self.runs().await.is_ok_and(|(runs, _)| runs) {
                backoff.wait().await;
            }
        };
        // A terminal of another size is a terminal.
        drop(tokio::time::timeout(STARTED, tried).await);
    }

    /// Whether it runs or will, and its code if it has ended.
    async fn runs(&self) -> Result<(bool, Option<i64>), Error> {
        let client = self.engine.client().await?;
        let seen = self.engine.look(client.api.inspect_exec(&self.id)).await?;
        match seen {
            Ok(seen) => Ok((seen.exit_code.is_none(), seen.exit_code)),
            Err(error) if status(&error) == Some(404) => Ok((false, None)),
            Err(error) => Err(self.engine.failed("ask about the process", &error)),
        }
    }
}

#[async_trait]
impl Process for Exec {
    async fn resize(&self, size: Size) -> Result<(), Error> {
        let client = self.engine.client().await?;
        let options = ResizeExecOptions { height: size.rows, width: size.columns };
        let resized = client.api.resize_exec(&self.id, options).await;
        resized.map_err(|error| Error::ends(Outcome::RuntimeError, message(&error)))
    }

    async fn exit(&self) -> Result<i32, Error> {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
        loop {
            match self.runs().await? {
                (false, Some(code)) => return Ok(i32::try_from(code).unwrap_or(-1)),
                (false, None) => return Err(ended()),
                (true, _) => backoff.wait().await,
            }
        }
    }

    async fn kill(&self) -> Result<(), Error> {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
        let killed = async {
            loop {
                let (container, mark) = (self.container.0.clone(), self.mark.clone());
                let left = tokio::task::spawn_blocking(move || descendants::kill(&container, &mark)).await;
                // One that is only about to begin has no mark yet.
                if left.unwrap_or(0) == 0 && self.runs().await.is_ok_and(|(runs, _)| !runs) {
                    return;
                }
                backoff.wait().await;
            }
        };
        let detail = "the process does not end: is the agent in a PID namespace of its own?";
        tokio::time::timeout(STUBBORN, killed).await.map_err(|_| Error::Stuck(detail.to_owned()))
    }
}

/// Up to the empty line, and not a byte more.
async fn head(stream: &mut UnixStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > HEAD {
            return Err(io::Error::other("an endless answer"));
        }
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn code(head: &str) -> Option<u16> {
    head.split(' ').nth(1)?.parse().ok()
}

/// Until the engine closes the connection or nobody reads any more.
async fn forward(mut read: tokio::net::unix::OwnedReadHalf, raw: bool, chunks: mpsc::Sender<Chunk>) {
    let mut bytes = BytesMut::new();
    loop {
        bytes.reserve(CHUNK);
        match read.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        loop {
            let next = if raw {
                (!bytes.is_empty()).then(|| Chunk { stream: Stream::Stdout, data: bytes.split().freeze() })
            } else {
                frame(&mut bytes)
            };
            let Some(chunk) = next else { break };
            if chunks.send(chunk).await.is_err() {
                return;
            }
        }
    }
}

/// The next piece of a stream with frames, as far as it has come: `[stream, 0, 0, 0, length, bytes]`.
fn frame(bytes: &mut BytesMut) -> Option<Chunk> {
    const HEADER: usize = 8;
    let length = bytes.get(4..HEADER)?;
    let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
    let stream = if bytes[0] == 2 { Stream::Stderr } else { Stream::Stdout };
    if bytes.len() < HEADER + length {
        return None;
    }
    bytes.advance(HEADER);
    let data: Bytes = bytes.split_to(length).freeze();
    Some(Chunk { stream, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_whole_whatever_pieces_they_came_in() {
        let sent = [&[1, 0, 0, 0, 0, 0, 0, 2][..], b"hi", &[2, 0, 0, 0, 0, 0, 0, 1], b"!"].concat();
        let mut bytes = BytesMut::new();
        let mut seen = Vec::new();
        for byte in sent {
            bytes.extend_from_slice(&[byte]);
            seen.extend(frame(&mut bytes).map(|chunk| (chunk.stream, chunk.data.to_vec())));
        }
        assert_eq!(seen, [(Stream::Stdout, b"hi".to_vec()), (Stream::Stderr, b"!".to_vec())]);
    }

    #[test]
    fn the_engines_answer_is_read_by_its_code() {
        assert_eq!(code("HTTP/1.1 101 UPGRADED\r\n\r\n"), Some(101));
        assert_eq!(code("nonsense"), None);
    }
}
