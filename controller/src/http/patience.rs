//! A stream whose peer must say something soon: what kind of HTTP it speaks is waited for without end otherwise.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// As long as the first words of HTTP/2.
const FIRST: usize = 24;

#[derive(Debug)]
pub(super) struct Patient<S> {
    inner: S,
    /// Until the first words are there.
    limit: Option<Pin<Box<Sleep>>>,
    read: usize,
}

impl<S> Patient<S> {
    pub(super) fn new(inner: S, patience: Duration) -> Self {
        Self { inner, limit: Some(Box::pin(sleep(patience))), read: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(limit) = &mut self.limit else {
            return Pin::new(&mut self.inner).poll_read(context, buffer);
        };
        if limit.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        self.read += buffer.filled().len() - before;
        if self.read >= FIRST {
            self.limit = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_says_nothing_or_little_is_cut_off_and_one_that_speaks_is_not() {
        for words in [&b""[..], b"PRI * HT"] {
            let (mut client, server) = duplex(1024);
            client.write_all(words).await.expect("room");
            let mut server = Patient::new(server, Duration::from_secs(15));
            let error = server.read_to_end(&mut Vec::new()).await.expect_err("too slow");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
        let (mut client, server) = duplex(1024);
        let mut server = Patient::new(server, Duration::from_secs(15));
        client.write_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n").await.expect("room");
        server.read_exact(&mut [0; 30]).await.expect("read");
        tokio::time::advance(Duration::from_secs(3600)).await;
        client.write_all(b"more").await.expect("room");
        server.read_exact(&mut [0; 4]).await.expect("no hurry any more");
    }
}
