//! The one port: TLS where it is on, HTTP/1 and HTTP/2 on each connection, and the peer with every request. Slow and
//! silent peers are cut off; nobody can hold more than a share of the connections half open.

use super::{
    patience::Patient,
    peer::{AgentCertificate, Peer},
};
use crate::pki::{self, Pki};
use axum::{Router, body::Body};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
    service::TowerToHyperService,
};
use longshore_common::{retry::Backoff, shutdown::Shutdown, tasks};
use rustls::server::Acceptor;
use serde::{Deserialize, Serialize};
use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};
use tower::Service;

/// How much of the port strangers may have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Connections at a time; more wait in the kernel's queue.
    pub connections: u32,
    /// Of them, those whose TLS handshake is not over yet.
    pub handshakes: u32,
    /// A handshake, the first bytes of a request, or the head of one may take this long.
    pub patience: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // A thousand agents, and as many people and services, a few connections each; a descriptor per connection.
            connections: 8_192,
            // A whole fleet comes back at once after a restart, and each costs a signature of 0.1 ms.
            handshakes: 1_024,
            // Satellite links take seconds; who takes longer does it on purpose.
            patience: Duration::from_secs(15),
        }
    }
}

/// How long calls under way may take to end.
const GRACE: Duration = Duration::from_secs(10);
/// A peer that is gone without a word is noticed after both.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(15));
/// Bytes a peer may send ahead, per call and per connection: enough for 10 Gbit/s at 1 ms.
const WINDOWS: (u32, u32) = (1 << 20, 4 << 20);
/// Calls at a time on one connection: an agent's, or a service's that waits for many jobs.
const STREAMS: u32 = 4_096;
/// Names and values of one request's headers; nobody's token is longer.
const HEADERS: u32 = 32 << 10;

/// What a connection needs of its server.
#[derive(Clone)]
struct Door {
    builder: Arc<auto::Builder<TokioExecutor>>,
    router: Router,
    tls: Option<Pki>,
    patience: Duration,
    handshakes: Arc<Semaphore>,
}

/// Serves until told to leave, then lets calls under way end.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<Pki>,
    config: Config,
    shutdown: Shutdown,
) {
    let door = Door {
        builder: Arc::new(builder(config.patience)),
        router,
        tls,
        patience: config.patience,
        handshakes: Arc::new(Semaphore::new(config.handshakes as usize)),
    };
    let connections = Arc::new(Semaphore::new(config.connections as usize));
    let graceful = GracefulShutdown::new();
    let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_secs(1));
    loop {
        let room = Arc::clone(&connections).acquire_owned();
        let accepted = tokio::select! {
            accepted = async { (room.await, listener.accept().await) } => accepted,
            () = shutdown.triggered() => break,
        };
        let (stream, address, room) = match accepted {
            (room, Ok((stream, address))) => (stream, address, room.expect("it is never closed")),
            (_, Err(error)) => {
                // Out of descriptors, mostly: others must close first.
                tracing::warn!(%error, "a connection was not accepted");
                backoff.wait().await;
                continue;
            }
        };
        backoff.reset();
        let (door, watcher) = (door.clone(), graceful.watcher());
        tasks::spawn("connection", async move {
            // Ends of connections are the peers' business, and their calls have answered already.
            if let Err(error) = door.open(stream, address, watcher).await {
                tracing::debug!(%error, %address, "connection ended");
            }
            drop(room);
        });
    }
    drop(listener);
    if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
        tracing::warn!("leaving with calls under way");
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Door {
    async fn open(self, stream: TcpStream, address: SocketAddr, watcher: Watcher) -> Result<(), Failure> {
        prepare(&stream);
        let Some(tls) = &self.tls else {
            let peer = Peer { address, secure: false, agent: None };
            return self.drive(stream, peer, watcher).await;
        };
        let permit = self.handshakes.acquire().await?;
        let stream = tokio::time::timeout(self.patience, handshake(tls, stream)).await??;
        drop(permit);
        let peer = Peer { address, secure: true, agent: shown(&stream)? };
        self.drive(stream, peer, watcher).await
    }

    async fn drive<S>(&self, stream: S, peer: Peer, watcher: Watcher) -> Result<(), Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = TowerToHyperService::new(Known { inner: self.router.clone(), peer });
        let io = TokioIo::new(Patient::new(stream, self.patience));
        let connection = self.builder.serve_connection_with_upgrades(io, service);
        watcher.watch(connection.into_owned()).await
    }
}

/// The name that the client asks for decides what it is shown and asked.
async fn handshake(tls: &Pki, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let config = tls.acceptor(start.client_hello().server_name());
    start.into_stream(config).await
}

/// A client certificate that is no agent's has no business here.
fn shown(stream: &TlsStream<TcpStream>) -> Result<Option<AgentCertificate>, Failure> {
    let Some(leaf) = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()) else {
        return Ok(None);
    };
    let agent = pki::agent_certificate(leaf).ok_or("a client certificate that names no agent")?;
    Ok(Some(agent))
}

/// Says with every request whose it is.
#[derive(Clone, Debug)]
struct Known {
    inner: Router,
    peer: Peer,
}

impl<B> Service<http::Request<B>> for Known
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Failure>,
{
    type Response = <Router as Service<http::Request<Body>>>::Response;
    type Error = <Router as Service<http::Request<Body>>>::Error;
    type Future = <Router as Service<http::Request<Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::<http::Request<Body>>::poll_ready(&mut self.inner, context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(self.peer.clone());
        self.inner.call(request)
    }
}

fn builder(patience: Duration) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE.0)
        .keep_alive_timeout(KEEP_ALIVE.1)
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .max_header_list_size(HEADERS)
        .max_concurrent_streams(STREAMS);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(patience).max_buf_size(HEADERS as usize);
    builder
}

fn prepare(stream: &TcpStream) {
    // Small answers leave at once.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
}
