//! A connection to the engine that is held open and otherwise left alone: it breaks when the process at its other end
//! ends, and not when that process is slow or answers with errors. Must never know containers, nor what a break means.

use longshore_common::clock::Timestamp;
use std::{
    io::{ErrorKind, Read as _},
    os::unix::net::UnixStream,
    sync::atomic::{AtomicI64, Ordering},
};
use tokio::io::AsyncWriteExt as _;

/// A stream of events that hardly ever come. What is answered does not matter, nor whether: the engine keeps
/// the connection.
const REQUEST: &[u8] =
    b"GET /events?filters=%7B%22type%22%3A%5B%22daemon%22%5D%7D HTTP/1.1\r\nHost: docker\r\n\r\n";

#[derive(Debug)]
pub(super) struct Tether {
    stream: UnixStream,
    contact: AtomicI64,
}

impl Tether {
    /// To the process that answers the next request. Cancel-safe.
    pub(super) async fn tie(socket: &str) -> std::io::Result<Self> {
        let mut stream = tokio::net::UnixStream::connect(socket).await?;
        stream.write_all(REQUEST).await?;
        Ok(Self { stream: stream.into_std()?, contact: AtomicI64::new(i64::MIN) })
    }

    /// Whether the process is still there. Exact, since the kernel closes its end; and cheap.
    pub(super) fn is_whole(&self) -> bool {
        let mut unread = [0; 1024];
        loop {
            match (&self.stream).read(&mut unread) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
    }

    /// The engine has just answered. Its successor's answers do not count.
    pub(super) fn note_contact(&self) {
        if self.is_whole() {
            self.contact.fetch_max(Timestamp::now().as_micros(), Ordering::AcqRel);
        }
    }

    /// When the process answered last.
    pub(super) fn last_contact(&self) -> Timestamp {
        Timestamp::from_micros(self.contact.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Write as _, os::unix::net::UnixListener};

    #[tokio::test]
    async fn it_breaks_with_the_process_and_not_with_what_that_says() {
        let home = tempfile::tempdir().expect("a folder");
        let socket = home.path().join("engine.sock");
        let listener = UnixListener::bind(&socket).expect("bound");
        let tether = Tether::tie(socket.to_str().expect("text")).await.expect("tied");
        let (mut engine, _) = listener.accept().expect("accepted");
        assert!(tether.is_whole(), "it says nothing yet");
        engine.write_all(&[b'x'; 5000]).expect("answered");
        assert!(tether.is_whole());
        let before = Timestamp::now();
        tether.note_contact();
        let contact = tether.last_contact();
        assert!(contact >= before);
        drop((engine, listener));
        assert!(!tether.is_whole() && !tether.is_whole());
        tether.note_contact();
        assert_eq!(tether.last_contact(), contact, "whoever answers now is another");
    }
}
