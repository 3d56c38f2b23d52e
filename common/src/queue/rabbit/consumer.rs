//! The agent's side: one task owns the connection and is told what to do. It connects again for as long as it
//! takes; hints of a lost connection are void, since the broker gives them to others.

use super::{Abort, BACKOFF, Broker, LANE_BACKOFF, subscriptions::Subscriptions};
use crate::{
    queue::{Consumer, Error, Hint, Lane, inbox::Inbox},
    retry::Backoff,
    tasks,
};
use async_trait::async_trait;
use lapin::Connection;
use std::{
    collections::BTreeSet,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot};

/// Idle lanes are consumed anew this often: RabbitMQ 3.10 does not tell a consumer that its quorum queue was
/// deleted, and a queue declared again does not know it.
const RENEW_EVERY: Duration = Duration::from_secs(10);

/// A connection that lived this long was a good one: the next attempt is made at once.
const GOOD_AFTER: Duration = Duration::from_secs(10);

pub struct RabbitConsumer {
    broker: Broker,
    commands: mpsc::Sender<Command>,
    inbox: Arc<Inbox>,
    _task: Abort,
}

struct Command {
    what: What,
    reply: oneshot::Sender<Result<(), Error>>,
}

enum What {
    Consume(BTreeSet<Lane>),
    Ack(Hint),
    Release,
}

struct Worker {
    broker: Broker,
    has_gpus: bool,
    inbox: Arc<Inbox>,
    commands: mpsc::Receiver<Command>,
    wanted: BTreeSet<Lane>,
    generation: u64,
}

impl RabbitConsumer {
    /// Returns at once; connecting goes on beside. `has_gpus` says which lanes are native to this machine.
    pub fn start(broker: Broker, has_gpus: bool) -> Self {
        let inbox = Arc::new(Inbox::default());
        let (commands, receiver) = mpsc::channel(64);
        let worker = Worker {
            broker: broker.clone(),
            has_gpus,
            inbox: Arc::clone(&inbox),
            commands: receiver,
            wanted: BTreeSet::new(),
            generation: 0,
        };
        let task = tasks::spawn("queue.consumer", worker.run());
        Self { broker, commands, inbox, _task: Abort(task) }
    }

    async fn tell(&self, what: What) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        let gone = || Error::Unreachable("the queue's task has ended".into());
        self.commands.send(Command { what, reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Worker {
    async fn run(mut self) {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        let mut told = false;
        loop {
            let broker = self.broker.clone();
            match self.meanwhile(broker.connect("longshore agent")).await {
                Ok(connection) => {
                    tracing::info!(%broker, "queue connected");
                    (told, self.generation) = (false, self.generation + 1);
                    let since = Instant::now();
                    let error = self.serve(&connection).await;
                    self.inbox.clear();
                    tracing::warn!(%broker, %error, "queue connection lost; connecting again");
                    if since.elapsed() > GOOD_AFTER {
                        backoff.reset();
                    }
                }
                Err(error) if !told => {
                    tracing::warn!(%broker, %error, "cannot reach the queue; trying on");
                    told = true;
                }
                Err(_) => {}
            }
            let wait = backoff.next_wait();
            self.meanwhile(tokio::time::sleep(wait)).await;
        }
    }

    /// Does `work` while there is no connection: wishes are noted, acknowledgements are void.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                Some(command) = self.commands.recv() => {
                    self.note(&command.what);
                    answer(command.reply, Ok(()));
                }
            }
        }
    }

    fn note(&mut self, what: &What) {
        match what {
            What::Consume(lanes) => self.wanted.clone_from(lanes),
            What::Release => self.wanted.clear(),
            What::Ack(_) => {}
        }
    }

    /// Returns why the connection is of no use any more.
    async fn serve(&mut self, connection: &Connection) -> Error {
        let (broker, inbox) = (self.broker.clone(), Arc::clone(&self.inbox));
        let mut lanes = Subscriptions::new(&broker, connection, &inbox, self.has_gpus, self.generation);
        let mut backoff = Backoff::new(LANE_BACKOFF.0, LANE_BACKOFF.1);
        let mut complete = false;
        let mut renewal = tokio::time::interval(RENEW_EVERY);
        renewal.reset();
        let mut lost = std::pin::pin!(super::lost(connection));
        let mut retry = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        loop {
            tokio::select! {
                Some(command) = self.commands.recv() => {
                    self.note(&command.what);
                    let acks = matches!(command.what, What::Ack(_));
                    let result = match command.what {
                        What::Consume(_) => lanes.apply(&self.wanted).await.map(|all| {
                            complete = all;
                            retry.as_mut().reset(tokio::time::Instant::now() + backoff.next_wait());
                        }),
                        What::Ack(hint) => lanes.ack(&hint).await,
                        What::Release => lanes.release().await,
                    };
                    let failed = result.clone().err();
                    // Wishes are noted, every lane is left with the connection, and with it an ack is void.
                    let void = !acks || failed.as_ref().is_some_and(Error::is_transient);
                    answer(command.reply, if void { Ok(()) } else { result });
                    if let Some(error) = failed {
                        return error;
                    }
                }
                (source, delivery) = lanes.next() => {
                    if !lanes.arrived(source, delivery) {
                        complete = false;
                        retry.as_mut().reset(tokio::time::Instant::now() + backoff.next_wait());
                    }
                }
                () = &mut lost => return Error::Unreachable("the connection ended".into()),
                _ = renewal.tick() => match lanes.renew().await {
                    Ok(all) => complete &= all,
                    Err(error) => return error,
                },
                () = &mut retry, if !complete => match lanes.apply(&self.wanted).await {
                    Ok(all) => {
                        complete = all;
                        if all {
                            backoff.reset();
                        }
                        retry.as_mut().reset(tokio::time::Instant::now() + backoff.next_wait());
                    }
                    Err(error) => return error,
                },
            }
        }
    }
}

fn answer(reply: oneshot::Sender<Result<(), Error>>, result: Result<(), Error>) {
    // Whoever asked may have stopped waiting.
    drop(reply.send(result));
}

#[async_trait]
impl Consumer for RabbitConsumer {
    async fn consume(&self, lanes: &[Lane]) -> Result<(), Error> {
        self.tell(What::Consume(lanes.iter().cloned().collect())).await
    }

    async fn next(&self) -> Hint {
        self.inbox.next().await
    }

    async fn ack(&self, hint: Hint) -> Result<(), Error> {
        self.tell(What::Ack(hint)).await
    }

    async fn release(&self) -> Result<(), Error> {
        self.tell(What::Release).await
    }
}

impl fmt::Debug for RabbitConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitConsumer").field("broker", &self.broker).finish_non_exhaustive()
    }
}
