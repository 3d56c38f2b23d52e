//! A process in a fake container: what it does is its command.

use super::{Container, KILLED};
use crate::runtime::{Chunk, Error, Inside, Output, Process};
use async_trait::async_trait;
use bytes::Bytes;
use longshore_common::{
    exec::{Size, Start},
    job::Outcome,
    logs::Stream,
    tasks,
};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::{
    io::{AsyncReadExt as _, DuplexStream},
    sync::{mpsc, watch},
};

const NOT_FOUND: i32 = 127;

#[derive(Debug)]
struct Played {
    end: watch::Sender<Option<i32>>,
    size: watch::Sender<Option<Size>>,
}

/// Counted for as long as it is played.
struct Counted(Arc<AtomicU64>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) fn start(
    container: Arc<Container>,
    start: &Start,
    count: Arc<AtomicU64>,
) -> Result<Inside, Error> {
    let (chunks, output) = mpsc::channel(4);
    let (near, far) = tokio::io::duplex(64 << 10);
    let process = Arc::new(Played { end: watch::Sender::new(None), size: watch::Sender::new(start.size) });
    let words = start.command.clone();
    let played = Arc::clone(&process);
    count.fetch_add(1, Ordering::Relaxed);
    let counted = Counted(count);
    let input = start.stdin.then_some(far);
    drop(tasks::spawn("fake exec", async move {
        let mut killed = played.end.subscribe();
        let code = tokio::select! {
            code = play(&words, input, &played.size, &chunks) => code,
            _ = container.ended() => KILLED,
            _ = killed.wait_for(Option::is_some) => KILLED,
        };
        drop(counted);
        played.end.send_if_modified(|end| {
            let first = end.is_none();
            end.get_or_insert(code);
            first
        });
    }));
    let input: Option<std::pin::Pin<Box<dyn tokio::io::AsyncWrite + Send>>> =
        if start.stdin { Some(Box::pin(near)) } else { None };
    Ok(Inside { output: Output(output), input, process })
}

async fn play(
    words: &[String],
    input: Option<DuplexStream>,
    size: &watch::Sender<Option<Size>>,
    chunks: &mpsc::Sender<Chunk>,
) -> i32 {
    let say = async |stream, text: String| {
        // Nobody may be listening.
        drop(chunks.send(Chunk { stream, data: Bytes::from(text) }).await);
    };
    let rest = || words[1..].join(" ") + "\n";
    match words.first().map(String::as_str).unwrap_or_default() {
        "echo" => say(Stream::Stdout, rest()).await,
        "complain" => say(Stream::Stderr, rest()).await,
        "exit" => return words.get(1).and_then(|code| code.parse().ok()).unwrap_or(0),
        "hang" => std::future::pending().await,
        "cat" => {
            let Some(mut input) = input else { return 0 };
            let mut piece = vec![0; 8 << 10];
            while let Ok(read @ 1..) = input.read(&mut piece).await {
                let data = Bytes::copy_from_slice(&piece[..read]);
                if chunks.send(Chunk { stream: Stream::Stdout, data }).await.is_err() {
                    return KILLED;
                }
            }
        }
        "size" => {
            let mut sizes = size.subscribe();
            loop {
                let now = *sizes.borrow_and_update();
                if let Some(Size { columns, rows }) = now {
                    say(Stream::Stdout, format!("{columns}x{rows}\n")).await;
                }
                if sizes.changed().await.is_err() {
                    return 0;
                }
            }
        }
        other => {
            say(Stream::Stderr, format!("{other}: not found\n")).await;
            return NOT_FOUND;
        }
    }
    0
}

#[async_trait]
impl Process for Played {
    async fn resize(&self, size: Size) -> Result<(), Error> {
        self.size.send_replace(Some(size));
        Ok(())
    }

    async fn exit(&self) -> Result<i32, Error> {
        let mut end = self.end.subscribe();
        let ended = end.wait_for(Option::is_some).await.map(|end| *end);
        ended.ok().flatten().ok_or_else(|| Error::ends(Outcome::RuntimeError, "it was never played"))
    }

    async fn kill(&self) -> Result<(), Error> {
        self.end.send_if_modified(|end| {
            let first = end.is_none();
            end.get_or_insert(KILLED);
            first
        });
        Ok(())
    }
}
