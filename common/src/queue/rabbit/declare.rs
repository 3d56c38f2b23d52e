//! Making lanes exist. A queue that is there is left as it is; a new one is declared as the broker's version
//! wants it.

use super::{Broker, NOT_FOUND, describe, reply_code, within};
use crate::queue::{Error, Lane};
use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use lapin::{
    Connection,
    options::QueueDeclareOptions,
    tcp::{AMQPUriTcpExt as _, OwnedTLSConfig},
    types::{AMQPValue, FieldTable},
};

/// Hints that wait in a lane; `None`: there is no such queue.
pub(super) async fn count(
    broker: &Broker,
    connection: &Connection,
    lane: &Lane,
) -> Result<Option<u32>, Error> {
    // Its own channel, since a queue that is missing closes it.
    let ask = async {
        let channel = connection.create_channel().await?;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare(broker.queue(lane), options, FieldTable::default()).await?;
        channel.close(200, "".into()).await?;
        Ok(queue.message_count())
    };
    match tokio::time::timeout(super::ANSWER_WITHIN, ask).await {
        Ok(Ok(count)) => Ok(Some(count)),
        Ok(Err(error)) if reply_code(&error) == Some(NOT_FOUND) => Ok(None),
        Ok(Err(error)) => Err(describe(&error)),
        Err(_) => Err(Error::Unreachable(format!("the broker did not count lane {lane}"))),
    }
}

/// Declares a lane that is not there.
pub(super) async fn declare(broker: &Broker, connection: &Connection, lane: &Lane) -> Result<(), Error> {
    if count(broker, connection, lane).await?.is_some() {
        return Ok(());
    }
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    // From 4.0 on a message is dropped at its 20th redelivery unless told otherwise; before, -1 drops it at once.
    if major_version(broker).await.is_some_and(|major| major >= 4) {
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(-1));
    }
    within("declaring a lane", async {
        let channel = connection.create_channel().await?;
        channel.queue_declare(broker.queue(lane), QueueDeclareOptions::durable(), arguments).await?;
        channel.close(200, "".into()).await
    })
    .await?;
    tracing::info!(queue.lane = %lane, "lane declared");
    Ok(())
}

/// The broker's major version, from its greeting: lapin does not hand it on. `None`: it could not be learnt, and
/// the lane gets no delivery limit of ours.
async fn major_version(broker: &Broker) -> Option<u32> {
    tokio::time::timeout(super::ANSWER_WITHIN, greeting(broker))
        .await
        .ok()?
        .ok()
        .and_then(|bytes| parse(&bytes))
}

async fn greeting(broker: &Broker) -> std::io::Result<Vec<u8>> {
    let runtime = lapin::runtime::default_runtime().map_err(std::io::Error::other)?;
    let tls = OwnedTLSConfig::default();
    let mut stream = broker.uri.connect_with_config_async(tls.as_ref(), &runtime).await?;
    stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
    stream.flush().await?;
    let mut head = [0; 7];
    stream.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]).min(64 << 10);
    let mut frame = vec![0; length as usize];
    stream.read_exact(&mut frame).await?;
    Ok(frame)
}

/// Finds `version` in the server properties: a key with its length before it, `S`, a length, the text.
fn parse(frame: &[u8]) -> Option<u32> {
    const KEY: &[u8] = b"\x07versionS";
    let at = frame.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let length = u32::from_be_bytes(frame.get(at..at + 4)?.try_into().ok()?) as usize;
    let text = std::str::from_utf8(frame.get(at + 4..at.checked_add(4)?.checked_add(length)?)?).ok()?;
    text.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn the_version_is_read_from_the_greeting() {
        let frame =
            b"\x00\x0a\x00\x0a..\x07productS\x00\x00\x00\x08RabbitMQ\x07versionS\x00\x00\x00\x064.0.5a..";
        assert_eq!(parse(frame), Some(4));
        assert_eq!(parse(b"\x07versionS\x00\x00\x00\x063.10.8"), Some(3));
        assert_eq!(parse(b"\x07versionS\xff\xff\xff\xff3.10.8"), None);
        assert_eq!(parse(b"no version here"), None);
    }
}
