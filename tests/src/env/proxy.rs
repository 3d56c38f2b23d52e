//! A TCP proxy in front of a server, so that a test can cut, close or freeze one client's connections.

use longshore_common::tasks;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

#[derive(Debug)]
pub struct Proxy {
    port: u16,
    state: watch::Sender<State>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Counts the cuts.
    Open(u32),
    Closed,
    Frozen,
}

impl Proxy {
    /// Lives on the runtime it is started on.
    pub async fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("bind a proxy");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        let (state, states) = watch::channel(State::Open(0));
        let task = tasks::spawn("test.proxy", async move {
            while let Ok((client, _)) = listener.accept().await {
                drop(tasks::spawn("test.proxy.connection", carry(client, upstream, states.clone())));
            }
        });
        Self { port, state, task }
    }

    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Ends every connection now open; new ones are served.
    pub fn cut(&self) {
        self.state.send_modify(|state| {
            *state = match state {
                State::Open(cuts) => State::Open(*cuts + 1),
                State::Closed | State::Frozen => State::Open(0),
            };
        });
    }

    /// Ends every connection, and every new one at once, until it is opened again.
    pub fn close(&self) {
        self.state.send_replace(State::Closed);
    }

    /// Carries nothing any more, and closes nothing, until it is opened again.
    pub fn freeze(&self) {
        self.state.send_replace(State::Frozen);
    }

    /// Serves new connections. Those that were frozen end.
    pub fn open(&self) {
        if !matches!(*self.state.borrow(), State::Open(_)) {
            self.cut();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(mut client: TcpStream, upstream: u16, mut states: watch::Receiver<State>) {
    states.mark_unchanged();
    if *states.borrow() == State::Closed {
        return;
    }
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", upstream)).await else { return };
    loop {
        let frozen = *states.borrow() == State::Frozen;
        tokio::select! {
            _ = copy_bidirectional(&mut client, &mut server), if !frozen => return,
            changed = states.changed() => {
                if changed.is_err() || *states.borrow() != State::Frozen {
                    return;
                }
            }
        }
    }
}
