//! One connection's consumers: a channel with a prefetch of one hint per lane, so that closing the channel gives
//! back exactly that lane's hint. Dies with the connection.

use super::{Broker, within};
use crate::queue::{Error, Hint, Lane, inbox::Inbox};
use futures::{
    StreamExt as _,
    stream::{self, BoxStream, SelectAll},
};
use lapin::{
    Channel, Connection,
    message::Delivery,
    options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use std::collections::{BTreeMap, BTreeSet};

/// Consumers on the machine's native lane are served first.
const NATIVE_PRIORITY: i32 = 10;

pub(super) struct Subscriptions<'a> {
    pub(super) broker: &'a Broker,
    pub(super) connection: &'a Connection,
    pub(super) inbox: &'a Inbox,
    pub(super) has_gpus: bool,
    /// Of the connection; on every hint.
    pub(super) generation: u64,
    lanes: BTreeMap<Lane, Subscription>,
    /// Given to the inbox and not acknowledged.
    open: BTreeMap<u64, Open>,
    next_id: u64,
    deliveries: SelectAll<BoxStream<'static, (Source, Option<Delivery>)>>,
}

/// Which subscription a delivery came from: a lane may be left and joined again.
#[derive(Clone)]
pub(super) struct Source {
    lane: Lane,
    id: u64,
}

struct Subscription {
    id: u64,
    channel: Channel,
    consumer: ShortString,
}

struct Open {
    source: Source,
    channel: Channel,
    delivery: u64,
}

impl<'a> Subscriptions<'a> {
    pub(super) fn new(
        broker: &'a Broker,
        connection: &'a Connection,
        inbox: &'a Inbox,
        has_gpus: bool,
        generation: u64,
    ) -> Self {
        Self {
            broker,
            connection,
            inbox,
            has_gpus,
            generation,
            lanes: BTreeMap::new(),
            open: BTreeMap::new(),
            next_id: 0,
            // Never empty, so that `next` waits instead of ending.
            deliveries: stream::select_all([stream::pending().boxed()]),
        }
    }

    /// The next delivery, or the end of a lane's consumer. Cancel-safe.
    pub(super) async fn next(&mut self) -> (Source, Option<Delivery>) {
        match self.deliveries.next().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    /// Files a delivery; `false` says that its lane's consumer has ended and is to be tried again.
    pub(super) fn arrived(&mut self, source: Source, delivery: Option<Delivery>) -> bool {
        let Some(subscription) = self.lanes.get(&source.lane).filter(|known| known.id == source.id) else {
            return true;
        };
        let Some(delivery) = delivery else {
            self.lanes.remove(&source.lane);
            return false;
        };
        self.next_id += 1;
        let (tag, lane) = (self.next_id, source.lane.clone());
        let channel = subscription.channel.clone();
        self.open.insert(tag, Open { source, channel, delivery: delivery.delivery_tag });
        self.inbox.push(Hint { lane, tag, generation: self.generation });
        true
    }

    /// Consumes from exactly `wanted`; answers whether every lane of it could be joined.
    pub(super) async fn apply(&mut self, wanted: &BTreeSet<Lane>) -> Result<bool, Error> {
        let left: Vec<Lane> = self.lanes.keys().filter(|lane| !wanted.contains(*lane)).cloned().collect();
        for lane in left {
            self.leave(&lane).await?;
        }
        let mut complete = true;
        for lane in wanted {
            if self.lanes.contains_key(lane) {
                continue;
            }
            if let Err(error) = self.join(lane).await {
                if !self.connection.status().connected() {
                    return Err(error);
                }
                tracing::debug!(queue.lane = %lane, %error, "lane cannot be consumed yet");
                complete = false;
            }
        }
        Ok(complete)
    }

    /// Leaves and joins every lane that brought nothing we still hold; answers as `apply`.
    pub(super) async fn renew(&mut self) -> Result<bool, Error> {
        let wanted: BTreeSet<Lane> = self.lanes.keys().cloned().collect();
        let idle = |id: u64| !self.open.values().any(|open| open.source.id == id);
        let lanes: Vec<Lane> =
            self.lanes.iter().filter(|(_, known)| idle(known.id)).map(|(lane, _)| lane.clone()).collect();
        for lane in lanes {
            self.leave(&lane).await?;
        }
        self.apply(&wanted).await
    }

    pub(super) async fn ack(&mut self, hint: &Hint) -> Result<(), Error> {
        if hint.generation != self.generation {
            return Ok(());
        }
        let Some(open) = self.open.remove(&hint.tag) else { return Ok(()) };
        if !open.channel.status().connected() {
            // The broker closed the channel alone, and gave the hint to another.
            return Ok(());
        }
        let left = self.lanes.get(&open.source.lane).is_none_or(|known| known.id != open.source.id);
        within("an acknowledgement", async {
            open.channel.basic_ack(open.delivery, BasicAckOptions::default()).await?;
            if left { close(&open.channel).await } else { Ok(()) }
        })
        .await
    }

    /// Leaves every lane; closing the channels gives back what is not acknowledged.
    pub(super) async fn release(&mut self) -> Result<(), Error> {
        self.inbox.clear();
        let mut channels: BTreeMap<u16, Channel> = BTreeMap::new();
        for subscription in std::mem::take(&mut self.lanes).into_values() {
            channels.insert(subscription.channel.id(), subscription.channel);
        }
        for open in std::mem::take(&mut self.open).into_values() {
            channels.insert(open.channel.id(), open.channel);
        }
        for channel in channels.into_values() {
            within("closing a channel", close(&channel)).await?;
        }
        Ok(())
    }

    async fn join(&mut self, lane: &Lane) -> Result<(), Error> {
        let priority = if self.has_gpus == lane.is_gpu() { NATIVE_PRIORITY } else { 0 };
        let mut arguments = FieldTable::default();
        arguments.insert("x-priority".into(), AMQPValue::LongInt(priority));
        let (channel, consumer) = within("consuming a lane", async {
            let channel = self.connection.create_channel().await?;
            channel.basic_qos(1, BasicQosOptions::default()).await?;
            let consumer = channel
                .basic_consume(self.broker.queue(lane), "".into(), BasicConsumeOptions::default(), arguments)
                .await?;
            Ok((channel, consumer))
        })
        .await?;
        self.next_id += 1;
        let (id, source) = (self.next_id, Source { lane: lane.clone(), id: self.next_id });
        let subscription = Subscription { id, channel, consumer: consumer.tag() };
        let end = stream::once(std::future::ready(None));
        let events = consumer.map(Result::ok).chain(end);
        self.deliveries.push(events.map(move |delivery| (source.clone(), delivery)).boxed());
        self.lanes.insert(lane.clone(), subscription);
        Ok(())
    }

    /// Cancels a lane's consumer. A hint that was handed out stays good until it is acknowledged; one that was
    /// not goes back with the channel.
    async fn leave(&mut self, lane: &Lane) -> Result<(), Error> {
        let Some(subscription) = self.lanes.remove(lane) else { return Ok(()) };
        if subscription.channel.status().connected() {
            let options = BasicCancelOptions::default();
            within("leaving a lane", subscription.channel.basic_cancel(subscription.consumer, options))
                .await?;
        }
        for hint in self.inbox.retract(lane) {
            self.open.remove(&hint.tag);
        }
        if !self.open.values().any(|open| open.source.id == subscription.id) {
            within("closing a channel", close(&subscription.channel)).await?;
        }
        Ok(())
    }
}

async fn close(channel: &Channel) -> Result<(), lapin::Error> {
    if channel.status().connected() { channel.close(200, "".into()).await } else { Ok(()) }
}
