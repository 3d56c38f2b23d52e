//! One attempt's log while it grows, and how far it is shipped. Every change says what it asks of the shipper.

use super::{
    Config, Shipped,
    encode::Encoder,
    redact::Masker,
    source::Source,
    spool::{Plan, SpoolFile, Window, lock},
};
use longshore_common::{
    clock::Timestamp,
    ids::AttemptRef,
    logs::{Position, Stream},
};
use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex},
};
use tokio::sync::Notify;

#[derive(Debug)]
pub(super) struct Log {
    pub(super) attempt: AttemptRef,
    config: Config,
    state: Mutex<State>,
    file: SpoolFile,
    settled: Notify,
}

/// What a change of the log asks of the shipper.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    /// There are bytes to ship, and the log is not in the shipper's list yet.
    pub(super) ship: bool,
    /// An unfinished line waits to be flushed, and no timer runs for it yet.
    pub(super) timer: bool,
}

#[derive(Debug)]
struct State {
    stdout: Source,
    stderr: Source,
    masker: Masker,
    encoder: Encoder,
    closed: bool,
    /// The controller will never take the rest.
    given_up: Option<Shipped>,
    stored: u64,
    /// In the shipper's list, or on its way.
    listed: bool,
    timer: bool,
}

impl AsMut<Window> for State {
    fn as_mut(&mut self) -> &mut Window {
        &mut self.encoder.window
    }
}

impl Log {
    pub(super) fn new(attempt: AttemptRef, from: Position, path: PathBuf, config: Config) -> Self {
        let state = State {
            stdout: Source::default(),
            stderr: Source::default(),
            masker: Masker::default(),
            encoder: Encoder::new(config.cap_bytes, from),
            closed: false,
            given_up: None,
            stored: from.end,
            listed: false,
            timer: false,
        };
        Self { attempt, config, state: Mutex::new(state), file: SpoolFile::new(path), settled: Notify::new() }
    }

    /// Moves bytes to the disk when the window in memory is full.
    pub(super) async fn make_room(self: &Arc<Self>) {
        if lock(&self.state).encoder.window.tail.len() < self.config.memory_bytes {
            return;
        }
        let log = Arc::clone(self);
        if let Err(panic) = tokio::task::spawn_blocking(move || log.file.spill(&log.state)).await {
            tracing::error!(attempt.id = %self.attempt, error = %panic, "log spool writer failed");
        }
    }

    /// What is not to be seen. Before the first output.
    pub(super) fn mask(&self, masker: Masker) {
        let mut state = lock(&self.state);
        state.stdout.mask(&masker);
        state.stderr.mask(&masker);
        state.masker = masker;
    }

    pub(super) fn masker(&self) -> Masker {
        lock(&self.state).masker.clone()
    }

    pub(super) fn masked(&self, text: &str) -> String {
        let masker = lock(&self.state).masker.clone();
        masker.line(text)
    }

    /// Takes output.
    pub(super) fn append(&self, stream: Stream, data: &[u8]) -> Wish {
        self.change(|state, now| {
            if state.encoder.refuses(stream, data.len(), self.config.memory_bytes) {
                match stream {
                    Stream::Stdout => state.stdout.cut(),
                    Stream::Stderr => state.stderr.cut(),
                    Stream::System => {}
                }
                return;
            }
            state.encoder.tell_gap(now);
            let State { stdout, stderr, masker, encoder, .. } = state;
            match stream {
                Stream::Stdout => stdout.push(data, |r, p, extra| encoder.output(stream, now, r, p, extra)),
                Stream::Stderr => stderr.push(data, |r, p, extra| encoder.output(stream, now, r, p, extra)),
                Stream::System => {
                    encoder.system(now, masker.line(&String::from_utf8_lossy(data)).as_bytes());
                }
            }
        })
    }

    /// The timer of an unfinished line has run off.
    pub(super) fn flush(&self) -> Wish {
        self.change(|state, now| {
            state.timer = false;
            let encoder = &mut state.encoder;
            state.stdout.flush(|r, p, extra| encoder.output(Stream::Stdout, now, r, p, extra));
            state.stderr.flush(|r, p, extra| encoder.output(Stream::Stderr, now, r, p, extra));
        })
    }

    pub(super) fn close(&self) -> Wish {
        self.change(|state, now| {
            let encoder = &mut state.encoder;
            state.stdout.finish(|r, p, extra| encoder.output(Stream::Stdout, now, r, p, extra));
            state.stderr.finish(|r, p, extra| encoder.output(Stream::Stderr, now, r, p, extra));
            encoder.tell_gap(now);
            encoder.tell_over_cap(now);
            state.closed = true;
        })
    }

    /// Length of the log: all of it, or what the controller has of one that was given up.
    pub(super) fn end(&self) -> u64 {
        let state = lock(&self.state);
        if state.given_up.is_some() { state.stored } else { state.encoder.window.end() }
    }

    /// Off the shipper's list: what to send now, or nothing.
    pub(super) fn take_plan(&self, most: usize) -> Option<Plan> {
        let mut state = lock(&self.state);
        let idle = state.given_up.is_some() || state.stored == state.encoder.window.end();
        let plan = if idle { None } else { state.encoder.window.plan(state.stored, most) };
        state.listed = plan.is_some();
        plan
    }

    pub(super) fn read(&self, plan: Plan) -> io::Result<bytes::Bytes> {
        plan.read(&self.file)
    }

    /// The controller has the log up to `stored`. Returns whether there is more to send, which keeps it listed.
    pub(super) fn stored(&self, stored: u64) -> bool {
        let mut state = lock(&self.state);
        state.stored = stored;
        state.encoder.window.stored(stored);
        let end = state.encoder.window.end();
        if state.encoder.window.plan(stored, 0).is_none() {
            let detail = format!("it asks for byte {stored} of the log, which this agent does not have");
            drop(state);
            self.give_up(Shipped::Refused(detail));
            return false;
        }
        state.listed = stored < end;
        let (more, done) = (state.listed, state.closed && stored == end);
        drop(state);
        if done {
            self.settled.notify_waiters();
        }
        more
    }

    /// The rest will never be stored: nothing more is kept.
    pub(super) fn give_up(&self, how: Shipped) {
        let mut state = lock(&self.state);
        state.given_up.get_or_insert(how);
        state.encoder.window.tail = Vec::new();
        state.listed = false;
        drop(state);
        self.settled.notify_waiters();
    }

    /// How shipping ended, once it has.
    pub(super) fn standing(&self) -> Option<Shipped> {
        let state = lock(&self.state);
        let all = state.closed && state.stored == state.encoder.window.end();
        state.given_up.clone().or(all.then_some(Shipped::Stored))
    }

    pub(super) async fn changed_standing(&self) {
        let changed = self.settled.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if self.standing().is_none() {
            changed.await;
        }
    }

    pub(super) fn has_file(&self) -> bool {
        self.file.exists()
    }

    pub(super) fn remove_file(&self) {
        if let Err(err) = self.file.remove() {
            let path = self.file.path().display();
            tracing::warn!(attempt.id = %self.attempt, error = %err, "log spool `{path}` cannot be removed");
        }
    }

    fn change(&self, change: impl FnOnce(&mut State, Timestamp)) -> Wish {
        let mut state = lock(&self.state);
        if state.closed || state.given_up.is_some() {
            return Wish::default();
        }
        change(&mut state, Timestamp::now());
        let wish = Wish {
            ship: !state.listed && state.stored < state.encoder.window.end(),
            timer: !state.closed && !state.timer && (state.stdout.is_pending() || state.stderr.is_pending()),
        };
        state.listed |= wish.ship;
        state.timer |= wish.timer;
        wish
    }
}
