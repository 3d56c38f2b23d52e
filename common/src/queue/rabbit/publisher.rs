//! The controller's side: one connection, made again for as long as it takes by a task of its own; calls fail
//! fast while there is none.

use super::{ANSWER_WITHIN, Abort, BACKOFF, Broker, declare, lost, within};
use crate::{
    queue::{Error, Lane, Publisher},
    retry::Backoff,
    tasks,
};
use async_trait::async_trait;
use futures::future::join_all;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use std::{fmt, sync::Arc};
use tokio::sync::{Notify, watch};

/// Milliseconds a hint lives: what is lost in a lane nobody consumes comes again by the publish loop.
const HINT_TTL: &str = "600000";

const PERSISTENT: u8 = 2;

pub struct RabbitPublisher {
    broker: Broker,
    link: watch::Receiver<Link>,
    _keeper: Abort,
}

#[derive(Clone)]
enum Link {
    Starting,
    Up(Arc<Session>),
    Down(Error),
}

struct Session {
    connection: Connection,
    channel: Channel,
    /// Rung by a call that saw the connection hang.
    hung: Notify,
}

impl RabbitPublisher {
    /// Returns at once; connecting goes on beside.
    pub fn start(broker: Broker) -> Self {
        let (sender, link) = watch::channel(Link::Starting);
        let keeper = tasks::spawn("queue.publisher", keep(broker.clone(), sender));
        Self { broker, link, _keeper: Abort(keeper) }
    }

    async fn session(&self) -> Result<Arc<Session>, Error> {
        let mut link = self.link.clone();
        let known = link.wait_for(|link| !matches!(link, Link::Starting));
        let link = match tokio::time::timeout(ANSWER_WITHIN, known).await {
            Ok(Ok(link)) => link.clone(),
            Ok(Err(_)) | Err(_) => Link::Starting,
        };
        match link {
            Link::Up(session) if session.connection.status().connected() => Ok(session),
            Link::Up(_) => Err(Error::Unreachable("the connection to the broker was just lost".into())),
            Link::Down(error) => Err(error),
            Link::Starting => Err(Error::Unreachable(format!("no answer from {} yet", self.broker))),
        }
    }

    async fn ensure(&self, session: &Session, lane: &Lane) -> Result<(), Error> {
        let result = declare::declare(&self.broker, &session.connection, lane).await;
        session.watch_over(result)
    }
}

async fn keep(broker: Broker, link: watch::Sender<Link>) {
    let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
    let mut told = false;
    loop {
        match Session::open(&broker).await {
            Ok(session) => {
                tracing::info!(%broker, "queue connected");
                (backoff, told) = (Backoff::new(BACKOFF.0, BACKOFF.1), false);
                let session = Arc::new(session);
                link.send_replace(Link::Up(Arc::clone(&session)));
                session.lost().await;
                tracing::warn!(%broker, "queue connection lost; connecting again");
                link.send_replace(Link::Down(Error::Unreachable("the connection was lost".into())));
            }
            Err(error) => {
                if !told {
                    tracing::warn!(%broker, %error, "cannot reach the queue; trying on");
                    told = true;
                }
                link.send_replace(Link::Down(error));
            }
        }
        backoff.wait().await;
    }
}

impl Session {
    async fn open(broker: &Broker) -> Result<Self, Error> {
        let connection = broker.connect("longshore controller").await?;
        let channel = within("publisher confirms", async {
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok(channel)
        })
        .await?;
        Ok(Self { connection, channel, hung: Notify::new() })
    }

    /// Returns when the connection is of no use any more.
    async fn lost(&self) {
        tokio::select! {
            () = lost(&self.connection) => {}
            () = self.hung.notified() => {}
        }
    }

    /// A connection that does not answer is given up, unless the broker said that it blocks publishers: a new
    /// one would be blocked as well.
    fn watch_over<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        match result {
            Err(Error::Unreachable(_)) if self.connection.status().blocked() => Err(blocked()),
            Err(error @ Error::Unreachable(_)) => {
                self.hung.notify_one();
                Err(error)
            }
            other => other,
        }
    }

    /// Publishes all, then awaits all confirms. A returned hint counts as not confirmed.
    async fn publish(&self, broker: &Broker, lane: &Lane, count: u32) -> Result<Confirmed, Error> {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let properties =
            BasicProperties::default().with_delivery_mode(PERSISTENT).with_expiration(HINT_TTL.into());
        let body = lane.as_str().as_bytes();
        within("a publisher confirm", async {
            let mut confirms = Vec::with_capacity(count as usize);
            for _ in 0..count {
                let publish = self.channel.basic_publish(
                    "".into(),
                    broker.queue(lane),
                    options,
                    body,
                    properties.clone(),
                );
                confirms.push(publish.await?);
            }
            let mut total = Confirmed::default();
            for confirm in join_all(confirms).await {
                match confirm? {
                    Confirmation::Ack(None) => total.stored += 1,
                    Confirmation::Ack(Some(_)) => total.returned += 1,
                    Confirmation::Nack(_) | Confirmation::NotRequested => {}
                }
            }
            Ok(total)
        })
        .await
    }
}

#[derive(Default)]
struct Confirmed {
    stored: u32,
    returned: u32,
}

fn blocked() -> Error {
    Error::Unreachable("the broker blocks publishers: it is short of memory or disk".into())
}

#[async_trait]
impl Publisher for RabbitPublisher {
    async fn declare(&self, lanes: &[Lane]) -> Result<(), Error> {
        let session = self.session().await?;
        for lane in lanes {
            self.ensure(&session, lane).await?;
        }
        Ok(())
    }

    async fn publish(&self, lane: &Lane, count: u32) -> Result<u32, Error> {
        let session = self.session().await?;
        if session.connection.status().blocked() {
            return Err(blocked());
        }
        let first = session.watch_over(session.publish(&self.broker, lane, count).await)?;
        if first.returned == 0 {
            return Ok(first.stored);
        }
        // The lane is gone, or never was.
        self.ensure(&session, lane).await?;
        let again = session.watch_over(session.publish(&self.broker, lane, first.returned).await)?;
        Ok(first.stored + again.stored)
    }

    async fn waiting(&self, lane: &Lane) -> Result<u32, Error> {
        let session = self.session().await?;
        let count = declare::count(&self.broker, &session.connection, lane).await;
        match session.watch_over(count)? {
            Some(count) => Ok(count),
            None => self.ensure(&session, lane).await.map(|()| 0),
        }
    }

    async fn health(&self) -> Result<String, Error> {
        let session = self.session().await?;
        if session.connection.status().blocked() {
            return Err(blocked());
        }
        Ok(format!("rabbitmq at {}", self.broker))
    }
}

impl fmt::Debug for RabbitPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitPublisher").field("broker", &self.broker).finish_non_exhaustive()
    }
}
