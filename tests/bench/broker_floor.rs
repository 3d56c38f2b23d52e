//! The broker without Longshore: a persistent message per job through a quorum queue, each confirmed and each
//! acknowledged, as a home-made queue of jobs would do it.

use anyhow::Context as _;
use futures::StreamExt as _;
use lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use std::time::Instant;

const QUEUE: &str = "raw-floor";
/// Published before their confirms are waited for; consumed ahead of their acknowledgements.
const WINDOW: usize = 100;
const PERSISTENT: u8 = 2;

/// Messages per second, published and consumed beside each other.
pub(crate) async fn rate(url: &str, messages: usize) -> anyhow::Result<f64> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    channel.queue_declare(QUEUE.into(), QueueDeclareOptions::durable(), arguments).await?;
    let before = Instant::now();
    tokio::try_join!(publish(&connection, messages), consume(&connection, messages))?;
    Ok(messages as f64 / before.elapsed().as_secs_f64())
}

async fn publish(connection: &Connection, messages: usize) -> anyhow::Result<()> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
    let body = [7; 64];
    for window in 0..messages.div_ceil(WINDOW) {
        let mut confirms = Vec::with_capacity(WINDOW);
        for _ in window * WINDOW..((window + 1) * WINDOW).min(messages) {
            let options = BasicPublishOptions::default();
            confirms.push(
                channel.basic_publish("".into(), QUEUE.into(), options, &body, properties.clone()).await?,
            );
        }
        for confirm in confirms {
            anyhow::ensure!(confirm.await?.is_ack(), "the broker did not take a message");
        }
    }
    Ok(())
}

async fn consume(connection: &Connection, messages: usize) -> anyhow::Result<()> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(WINDOW as u16, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let mut consumer = channel.basic_consume(QUEUE.into(), "".into(), options, FieldTable::default()).await?;
    for _ in 0..messages {
        let delivery = consumer.next().await.context("the broker ended the consumer")??;
        delivery.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}
