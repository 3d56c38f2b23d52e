//! The real controller over gRPC: `session` keeps the one stream up, `calls` are the unary ones, `finish` sends
//! reports together. Only this folder knows tonic. Never decides about an attempt.

mod access;
mod calls;
mod finish;
mod line;
mod session;
#[cfg(test)]
mod tests;
mod tls;

pub use access::Access;

use super::{Error, Linked, Reporter};
use calls::GrpcController;
use line::Line;
use longshore_common::{
    agent::AgentIdentity, queue::link::LinkConsumer, shutdown::Shutdown, tasks, wire::status::Refusal,
};
use longshore_proto::v1::agent_link_client::AgentLinkClient;
use session::Session;
use std::{fmt, sync::Arc, time::Duration};
use tokio::sync::mpsc;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

/// Hundreds of grants in one answer, and a page of a manifest.
const MESSAGE_LIMIT: usize = 32 << 20;

/// Events that may wait for the agent.
const EVENTS: usize = 256;

/// Whom to speak to, and as whom.
#[derive(Clone)]
pub struct Settings {
    /// `https://controller:7420`
    pub url: String,
    /// What it shows there.
    pub access: Access,
    pub identity: AgentIdentity,
    /// `None`: as the controller says.
    pub heartbeat_every: Option<Duration>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("url", &self.url)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// Keeps a link up until `leave`; never gives up on a controller that does not answer.
pub fn start(settings: Settings, reporter: Arc<dyn Reporter>, leave: Shutdown) -> Result<Linked, Error> {
    let line = settings.access.line()?.ok_or_else(|| Error::Refused("no controller is named".to_owned()))?;
    let client = client(line.clone());
    let keep = settings.access.clone().keep(client.clone(), line, leave.clone());
    drop(tasks::spawn("credential", keep));
    Ok(start_with(client, settings, reporter, leave))
}

/// As `start`, over a channel that somebody else made.
pub fn start_over(
    channel: Channel,
    settings: Settings,
    reporter: Arc<dyn Reporter>,
    leave: Shutdown,
) -> Linked {
    let client = client(Line::over(channel, settings.access.wallet().clone()));
    start_with(client, settings, reporter, leave)
}

fn client(line: Line) -> calls::Client {
    AgentLinkClient::new(line)
        .max_decoding_message_size(MESSAGE_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT)
}

fn start_with(
    client: calls::Client,
    settings: Settings,
    reporter: Arc<dyn Reporter>,
    leave: Shutdown,
) -> Linked {
    let (events, received) = mpsc::channel(EVENTS);
    let bell = Arc::new(LinkConsumer::new());
    let controller =
        Arc::new(GrpcController::new(client.clone(), settings.identity.id, settings.identity.session));
    let session = Session { client, settings, reporter, events, bell: Arc::clone(&bell), leave };
    drop(tasks::spawn("link", session.run()));
    Linked { controller, events: received, bell }
}

/// How a controller is connected to.
pub fn endpoint(url: &str) -> Result<Endpoint, Error> {
    let endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(|error| Error::Refused(format!("`{url}` is not an address of a controller: {error}")))?
        .connect_timeout(Duration::from_secs(5))
        .tcp_nodelay(true)
        // A machine that vanished is noticed in 20 seconds, also while nothing is sent.
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        // Logs of many attempts share the connection with heartbeats.
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20);
    Ok(endpoint)
}

/// What a status means for whoever called.
fn error(status: &Status) -> Error {
    match std::error::Error::source(status) {
        // Of the connection: only the last cause says what happened.
        Some(cause) => Error::Unreachable(line::causes(cause)),
        None => refusal(&Refusal::from(status)),
    }
}

fn refusal(refusal: &Refusal) -> Error {
    match refusal.code {
        Code::FailedPrecondition => Error::Fenced(refusal.message.clone()),
        Code::Unauthenticated => Error::Denied(refusal.message.clone()),
        // A broken connection, a controller that restarts, or one that fails: all of them pass.
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Cancelled
        | Code::Unknown
        | Code::Internal => Error::Unreachable(refusal.message.clone()),
        _ => Error::Refused(refusal.message.clone()),
    }
}
