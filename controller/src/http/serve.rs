//! The one port: HTTP/1 and HTTP/2 (also without TLS) on each connection, told apart by its first bytes.

use super::peer::Peer;
use axum::{Extension, Router};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use longshore_common::{retry::Backoff, shutdown::Shutdown, tasks};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// How long calls under way may take to end.
const GRACE: Duration = Duration::from_secs(10);
/// A peer that is gone without a word is noticed after both.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(15));
/// Bytes a peer may send ahead, per call and per connection: enough for 10 Gbit/s at 1 ms.
const WINDOWS: (u32, u32) = (1 << 20, 4 << 20);
/// Calls at a time on one connection: an agent's, or a service's that waits for many jobs.
const STREAMS: u32 = 4_096;

/// Serves until told to leave, then lets calls under way end.
pub async fn serve(listener: TcpListener, router: Router, shutdown: Shutdown) {
    let builder = builder();
    let graceful = GracefulShutdown::new();
    let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_secs(1));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.triggered() => break,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, mostly: others must close first.
                tracing::warn!(%error, "a connection was not accepted");
                backoff.wait().await;
                continue;
            }
        };
        backoff.reset();
        prepare(&stream);
        let peer = Peer { address, secure: false, agent: None };
        let service = TowerToHyperService::new(router.clone().layer(Extension(peer)));
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let connection = graceful.watch(connection.into_owned());
        tasks::spawn("connection", async move {
            // Ends of connections are the peers' business, and their calls have answered already.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
        tracing::warn!("leaving with calls under way");
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE.0)
        .keep_alive_timeout(KEEP_ALIVE.1)
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .max_concurrent_streams(STREAMS);
    builder.http1().timer(TokioTimer::new());
    builder
}

fn prepare(stream: &TcpStream) {
    // Small answers leave at once.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
}
