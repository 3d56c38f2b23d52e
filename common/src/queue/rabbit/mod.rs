//! The queue on RabbitMQ 3.10 to 4.x, and the only home of lapin: one durable quorum queue per lane. Never nacks
//! (a nack under consumer priority comes straight back to the same consumer), never sets `x-expires` (it deletes
//! confirmed hints), never holds a delivery while a job runs.

mod consumer;
mod declare;
mod publisher;
mod subscriptions;

pub use consumer::RabbitConsumer;
pub use publisher::RabbitPublisher;

use super::{Error, Lane};
use futures::StreamExt as _;
use lapin::{Connection, ConnectionProperties, ErrorKind, types::ShortString, uri::AMQPUri};
use std::{fmt, time::Duration};

/// An answer that takes longer means the connection is dead or the broker is in alarm.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Seconds; two missed ones end the connection, so that hints of a frozen agent are back within 20 s.
const HEARTBEAT: u16 = 10;

/// Waits between connection attempts.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(4));

/// Waits before a lane that could not be consumed is tried again.
const LANE_BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// A look at the connection's state.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// AMQP reply codes this module tells apart.
const NOT_FOUND: u16 = 404;
const REFUSALS: [u16; 4] = [402, 403, 406, 530];

/// Where the broker is. Its password is shown nowhere.
#[derive(Clone)]
pub struct Broker {
    uri: AMQPUri,
    prefix: String,
}

impl Broker {
    /// `url` is `amqp://user:password@host:port/vhost` (or `amqps`); lanes are queues named `<prefix>.<lane>`.
    pub fn new(url: &str, prefix: &str) -> Result<Self, Error> {
        // The parser's own words may repeat the URL, and with it the password.
        let mut uri: AMQPUri = url.parse().map_err(|_| {
            Error::Refused("the broker's URL must look like amqp://user:password@host:5672/%2f".into())
        })?;
        if prefix.is_empty() || prefix.len() > 60 || !prefix.bytes().all(is_name_byte) {
            return Err(Error::Refused(format!(
                "queue prefix `{prefix}` must be 1 to 60 letters, digits, `-`, `_` or `.`"
            )));
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        Ok(Self { uri, prefix: prefix.to_owned() })
    }

    pub fn vhost(&self) -> &str {
        &self.uri.vhost
    }

    /// A pattern of the queues of these lanes and no other, as the broker's permissions want it.
    pub fn pattern(&self, lanes: &[Lane]) -> String {
        let names: Vec<_> = lanes.iter().map(|lane| self.queue(lane).as_str().replace('.', "\\.")).collect();
        format!("^({})$", names.join("|"))
    }

    fn queue(&self, lane: &Lane) -> ShortString {
        format!("{}.{lane}", self.prefix).into()
    }

    async fn connect(&self, name: &str) -> Result<Connection, Error> {
        let properties = ConnectionProperties::default()
            .with_client_property("product".into(), "Longshore".into())
            .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into())
            .with_connection_name(name.into());
        within("the handshake", Connection::connect_uri(self.uri.clone(), properties)).await
    }
}

const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = &self.uri.authority;
        write!(f, "{}://{}:{}", self.uri.scheme, authority.host, authority.port)
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Broker({self}, {}.*)", self.prefix)
    }
}

/// Waits for an answer of the broker, but not for ever.
async fn within<T>(
    what: &str,
    answer: impl Future<Output = Result<T, lapin::Error>> + Send,
) -> Result<T, Error> {
    match tokio::time::timeout(ANSWER_WITHIN, answer).await {
        Ok(result) => result.map_err(|error| describe(&error)),
        Err(_) => Err(Error::Unreachable(format!("{what} took longer than {} s", ANSWER_WITHIN.as_secs()))),
    }
}

/// Returns when the connection has ended. Looks by itself as well, should the event be missed.
async fn lost(connection: &Connection) {
    let mut events = connection.events_listener();
    while connection.status().connected() {
        tokio::select! {
            _ = events.next() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

fn describe(error: &lapin::Error) -> Error {
    match reply_code(error) {
        Some(code) if REFUSALS.contains(&code) => Error::Refused(error.to_string()),
        _ => Error::Unreachable(error.to_string()),
    }
}

fn reply_code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}

/// Ends the task with its owner.
#[derive(Debug)]
struct Abort(tokio::task::JoinHandle<()>);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_never_shown() {
        let broker = Broker::new("amqp://anna:hunter2@broker.example:5673/%2f", "longshore").expect("valid");
        assert_eq!(format!("{broker:?}"), "Broker(amqp://broker.example:5673, longshore.*)");
        let refused = Broker::new("http://anna:hunter2@broker.example", "longshore").expect_err("not AMQP");
        assert!(!format!("{refused} {refused:?}").contains("hunter2"));
    }

    #[test]
    fn a_pattern_is_of_the_lanes_alone() {
        let broker = Broker::new("amqp://broker.example/%2f", "ship.one").expect("valid");
        let pattern = broker.pattern(&Lane::of_pool("default"));
        assert_eq!(
            pattern,
            r"^(ship\.one\.default\.cpu|ship\.one\.default\.gpu|ship\.one\.default\.gpu-shared)$"
        );
        assert_eq!(broker.vhost(), "/");
    }

    #[test]
    fn prefixes_that_break_queue_names_are_refused() {
        for prefix in ["", "a b", "ü", &"x".repeat(61)] {
            assert!(Broker::new("amqp://localhost", prefix).is_err(), "{prefix}");
        }
    }
}
