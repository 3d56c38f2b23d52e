//! A connection to the engine that is held open and otherwise left alone: it breaks when the process at its other end
//! ends, and not when that process is slow or answers with errors. Must never know containers, nor what a break means.

use longshore_common::clock::{Moment, Uptime};
use std::{
    io::{ErrorKind, Read as _},
    os::unix::net::UnixStream,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::io::AsyncWriteExt as _;

/// A stream of events that hardly ever come. What is answered does not matter, nor whether: the engine keeps
/// the connection.
const REQUEST: &[u8] =
    b"GET /events?filters=%7B%22type%22%3A%5B%22daemon%22%5D%7D HTTP/1.1\r\nHost: docker\r\n\r\n";

/// In which the kernel shows times to programs, on all processors there are engines for.
const TICKS_PER_SECOND: u64 = 100;

#[derive(Debug)]
pub(super) struct Tether {
    stream: UnixStream,
    contact: Mutex<Option<Moment>>,
    /// At the other end; `None`: in another namespace.
    pid: Option<i32>,
}

impl Tether {
    /// To the process that answers the next request. Cancel-safe.
    pub(super) async fn tie(socket: &str) -> std::io::Result<Self> {
        let mut stream = tokio::net::UnixStream::connect(socket).await?;
        stream.write_all(REQUEST).await?;
        let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
        Ok(Self { stream: stream.into_std()?, contact: Mutex::default(), pid })
    }

    /// The engine's process, or whoever holds its socket.
    pub(super) const fn pid(&self) -> Option<i32> {
        self.pid
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

    /// When the engine's process began, if that can be known.
    pub(super) fn began(&self) -> Option<Moment> {
        let name = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let pid = self.pid.filter(|pid| name(*pid).trim() != "systemd").or_else(|| {
            // The socket is systemd's.
            let pid = std::fs::read_to_string("/run/docker.pid").ok()?.trim().parse().ok()?;
            (name(pid).trim() == "dockerd").then_some(pid)
        })?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (now, up) = (Moment::now(), began_up(&stat)?);
        Some(Moment { at: now.at.minus(now.up?.since(up)), up: Some(up) })
    }

    /// The engine has just answered. Its successor's answers do not count.
    pub(super) fn note_contact(&self) {
        if self.is_whole() {
            *self.contact.lock().unwrap_or_else(PoisonError::into_inner) = Some(Moment::now());
        }
    }

    /// When the process answered last.
    pub(super) fn last_contact(&self) -> Option<Moment> {
        *self.contact.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When a process began: from its `stat`.
fn began_up(stat: &str) -> Option<Uptime> {
    // The name before may hold anything.
    let ticks: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    Some(Uptime::of(Duration::from_micros(ticks * 1_000_000 / TICKS_PER_SECOND)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::clock::Timestamp;
    use std::{io::Write as _, os::unix::net::UnixListener};

    #[test]
    fn the_start_of_a_process_is_read_past_any_name() {
        let stat = "4711 (a) b (c) S 1 4711 4711 0 -1 4194560 1 0 0 0 5 6 0 0 20 0 9 0 12345 1 2 3";
        assert_eq!(began_up(stat), Some(Uptime::of(Duration::from_millis(123_450))));
        assert_eq!(began_up("4711 (a"), None);
    }

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
        assert!(contact.is_some_and(|contact| contact.at >= before));
        drop((engine, listener));
        assert!(!tether.is_whole() && !tether.is_whole());
        tether.note_contact();
        assert_eq!(tether.last_contact(), contact, "whoever answers now is another");
    }
}
