//! The one stream of an agent, kept up for as long as the agent lives: hello, heartbeats and turns of the link's
//! queue go up; welcome, renewals, stops and hints come down.

use super::{Settings, calls::Client, error};
use crate::link::{Error, Event, QueueAccess, Reporter, Welcome};
use longshore_common::{
    agent::Holdings,
    ids::{AttemptRef, Epoch},
    queue::link::{LinkConsumer, Turn, Work},
    retry::Backoff,
    shutdown::Shutdown,
    wire::{self, Greeting, WireError},
};
use longshore_proto::v1::{self, link_request, link_response};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// Messages on their way up.
const UP: usize = 16;
const WELCOME: Duration = Duration::from_secs(15);
/// For a controller to hear that the agent leaves.
const GOODBYE: Duration = Duration::from_millis(400);
/// Between tries of an agent that is not let in: somebody has to do something first.
const DENIED: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) settings: Settings,
    pub(super) reporter: Arc<dyn Reporter>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) bell: Arc<LinkConsumer>,
    pub(super) leave: Shutdown,
}

/// A stream that is up.
struct Stream {
    up: mpsc::Sender<v1::LinkRequest>,
    down: Streaming<v1::LinkResponse>,
    every: Duration,
    /// Hints come over the link.
    rings: bool,
    sequence: u64,
    /// What the controller knows to lie here.
    told: Option<Holdings>,
    /// Heartbeats without an answer yet.
    asked: VecDeque<Asked>,
    heard: Instant,
}

/// A heartbeat on its way.
struct Asked {
    sequence: u64,
    at: Instant,
    held: Vec<AttemptRef>,
}

impl Session {
    pub(super) async fn run(self) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut denied = Backoff::new(DENIED.0, DENIED.1);
        let leave = self.leave.clone();
        let mut told = false;
        loop {
            let ended = self.once(&mut backoff, &mut told).await;
            if leave.is_triggered() {
                return;
            }
            self.bell.disconnected();
            let patient = matches!(ended, Error::Denied(_) | Error::Refused(_));
            // Only once, unless it is for a person to mend.
            told &= !patient;
            if !std::mem::replace(&mut told, true) {
                tracing::warn!(reason = %ended, url = %self.settings.url, "link to the controller is down");
            }
            if self.events.send(Event::Disconnected { reason: ended.to_string() }).await.is_err() {
                return;
            }
            tokio::select! {
                () = leave.triggered() => return,
                () = denied.wait(), if patient => {}
                () = backoff.wait(), if !patient => denied.reset(),
            }
        }
    }

    /// One stream from hello to its end; answers why it ended.
    async fn once(&self, backoff: &mut Backoff, told: &mut bool) -> Error {
        let leaves = || Error::Unreachable("the agent leaves".to_owned());
        let opening = async {
            match self.open().await {
                Ok(stream) => Ok(stream),
                Err(error) => Err(self.not_taken(error).await),
            }
        };
        let opened = tokio::select! {
            () = self.leave.triggered() => return leaves(),
            opened = opening => opened,
        };
        let mut stream = match opened {
            Ok(stream) => stream,
            Err(error) => return error,
        };
        tracing::info!(url = %self.settings.url, "linked to the controller");
        backoff.reset();
        *told = false;
        loop {
            let turned = tokio::select! {
                () = self.leave.triggered() => {
                    goodbye(stream).await;
                    return leaves();
                }
                turned = self.turn(&mut stream) => turned,
            };
            if let Err(error) = turned {
                return tokio::select! {
                    () = self.leave.triggered() => leaves(),
                    error = self.not_taken(error) => error,
                };
            }
        }
    }

    async fn not_taken(&self, error: Error) -> Error {
        match self.settings.access.explain(error) {
            error @ (Error::Denied(_) | Error::Refused(_)) => self.settings.access.refused(error).await,
            error => error,
        }
    }

    async fn open(&self) -> Result<Stream, Error> {
        self.settings.access.ready().await?;
        let (up, requests) = mpsc::channel(UP);
        let greeting = Greeting {
            protocol_min: *wire::PROTOCOLS.start(),
            protocol_max: *wire::PROTOCOLS.end(),
            identity: self.settings.identity.clone(),
            inventory: self.reporter.inventory(),
        };
        send(&up, link_request::Message::Hello(wire::hello(&greeting))).await?;
        let mut client = self.client.clone();
        let silent = |_| Error::Unreachable(format!("no welcome for {} s", WELCOME.as_secs()));
        let opening = client.link(ReceiverStream::new(requests));
        let mut down =
            timeout(WELCOME, opening).await.map_err(silent)?.map_err(|status| error(&status))?.into_inner();
        let first =
            timeout(WELCOME, down.message()).await.map_err(silent)?.map_err(|status| error(&status))?;
        let Some(link_response::Message::Welcome(message)) = first.and_then(|first| first.message) else {
            return Err(Error::Unreachable("the controller did not say welcome".to_owned()));
        };
        self.settings.access.compare(&message.ca);
        let welcome = welcome(message)
            .map_err(|error| Error::Refused(format!("the controller's welcome cannot be read: {error}")))?;
        let rings = welcome.queue == QueueAccess::Link;
        let every = self.settings.heartbeat_every.unwrap_or(welcome.heartbeat_every);
        if rings {
            self.bell.connected();
        }
        self.tell(Event::Connected(welcome)).await?;
        let asked = VecDeque::new();
        let mut stream =
            Stream { up, down, every, rings, sequence: 0, told: None, asked, heard: Instant::now() };
        self.beat(&mut stream).await?;
        Ok(stream)
    }

    /// Everything until the next heartbeat has gone up.
    async fn turn(&self, stream: &mut Stream) -> Result<(), Error> {
        let last = Instant::now();
        let mut due = last + stream.every;
        let mut hurried = false;
        loop {
            tokio::select! {
                message = stream.down.message() => {
                    stream.heard = Instant::now();
                    match message {
                        Ok(Some(message)) => self.heard(&mut stream.asked, message).await?,
                        Ok(None) => return Err(Error::Unreachable("the controller ended the link".to_owned())),
                        Err(status) => return Err(error(&status)),
                    }
                }
                turn = self.bell.next_turn(), if stream.rings => {
                    send(&stream.up, link_request::Message::Listen(listen(turn))).await?;
                }
                () = self.settings.access.renewed() => {
                    return Err(Error::Unreachable("the agent shows its renewed credential".to_owned()));
                }
                () = self.reporter.changed(), if !hurried => {
                    hurried = true;
                    due = due.min(Instant::now() + coalesce(self.reporter.report().held.len()));
                }
                () = tokio::time::sleep_until(due) => {
                    // Every heartbeat is answered: silence over three of them is a dead link.
                    if stream.heard.elapsed() > stream.every * 3 + WELCOME {
                        return Err(Error::Unreachable("the controller went silent".to_owned()));
                    }
                    return self.beat(stream).await;
                }
            }
        }
    }

    async fn beat(&self, stream: &mut Stream) -> Result<(), Error> {
        stream.sequence += 1;
        // Before the list is made: a lease must not seem longer than the controller counts it.
        let at = Instant::now();
        let report = self.reporter.report();
        let news = report.holdings.as_ref().filter(|holdings| stream.told.as_ref() != Some(*holdings));
        let held = report.held.iter().map(|held| held.attempt).collect();
        stream.asked.push_back(Asked { sequence: stream.sequence, at, held });
        let heartbeat = v1::Heartbeat {
            sequence: stream.sequence,
            held: report.held.iter().map(v1::HeldAttempt::from).collect(),
            free: Some(report.free.into()),
            gpus: report.gpus.iter().map(v1::Gpu::from).collect(),
            note: report.note,
            disk_low: report.disk_low,
            holdings: news.map(v1::Holdings::from),
            caches_bytes: report.caches_bytes,
            closed_because: report.closed,
            slots: Some(report.slots),
            leaving: report.leaving.map(wire::duration_to),
        };
        stream.told = report.holdings;
        send(&stream.up, link_request::Message::Heartbeat(heartbeat)).await
    }

    async fn heard(&self, asked: &mut VecDeque<Asked>, message: v1::LinkResponse) -> Result<(), Error> {
        let read = match message.message {
            Some(link_response::Message::Renewed(renewed)) => renewal(asked, renewed),
            Some(link_response::Message::Stop(message)) => {
                wire::stop_from(message).map(|(attempt, reason)| Some(Event::Stop { attempt, reason }))
            }
            Some(link_response::Message::Work(message)) => rung(&message).map(|work| {
                self.bell.work(&work);
                None
            }),
            Some(link_response::Message::ResetGpu(reset)) => Ok(Some(Event::ResetGpu(reset.gpu))),
            Some(link_response::Message::Orders(orders)) => Ok(Some(Event::Orders(orders.into()))),
            Some(link_response::Message::Exec(order)) => {
                wire::exec_order_from(&order).map(|(session, attempt)| Some(Event::Exec { session, attempt }))
            }
            // A second welcome, or a word that this version does not know.
            Some(link_response::Message::Welcome(_)) | None => Ok(None),
        };
        match read {
            Ok(Some(event)) => self.tell(event).await,
            Ok(None) => Ok(()),
            Err(error) => {
                tracing::warn!(%error, "a message of the controller cannot be read");
                Ok(())
            }
        }
    }

    async fn tell(&self, event: Event) -> Result<(), Error> {
        let gone = |_| Error::Unreachable("the agent has ended".to_owned());
        self.events.send(event).await.map_err(gone)
    }
}

/// How long news may wait for more of it. A thousand listed attempts a second is enough for anybody to read.
fn coalesce(held: usize) -> Duration {
    Duration::from_millis(held as u64).clamp(Duration::from_millis(20), Duration::from_millis(500))
}

async fn send(up: &mpsc::Sender<v1::LinkRequest>, message: link_request::Message) -> Result<(), Error> {
    let gone = |_| Error::Unreachable("the controller ended the link".to_owned());
    up.send(v1::LinkRequest { message: Some(message) }).await.map_err(gone)
}

/// Says that the process ends in order, so that nobody takes it for one that died.
async fn goodbye(stream: Stream) {
    let Stream { up, mut down, .. } = stream;
    let heard = async {
        send(&up, link_request::Message::Leaving(v1::Leaving {})).await?;
        drop(up);
        while let Ok(Some(_)) = down.message().await {}
        Ok::<_, Error>(())
    };
    drop(timeout(GOODBYE, heard).await);
}

fn listen(turn: Turn) -> v1::Listen {
    v1::Listen {
        lanes: turn.lanes.iter().map(ToString::to_string).collect(),
        acked: wire::hints_to(&turn.acked),
        returned: wire::hints_to(&turn.returned),
    }
}

/// What the answer to a heartbeat says of those it listed. Heartbeats are answered in order, or not at all.
fn renewal(asked: &mut VecDeque<Asked>, message: v1::Renewed) -> Result<Option<Event>, WireError> {
    let refs =
        |refs: Vec<v1::AttemptRef>| refs.into_iter().map(AttemptRef::try_from).collect::<Result<Vec<_>, _>>();
    let (fenced, expired) = (refs(message.fenced)?, refs(message.expired)?);
    while asked.front().is_some_and(|asked| asked.sequence < message.sequence) {
        asked.pop_front();
    }
    let answered = asked.pop_front_if(|asked| asked.sequence == message.sequence);
    Ok(answered.map(|Asked { at, mut held, .. }| {
        held.retain(|attempt| !fenced.contains(attempt) && !expired.contains(attempt));
        Event::Renewed { renewed: held, fenced, asked_at: at }
    }))
}

fn rung(message: &v1::Work) -> Result<Work, WireError> {
    let lane = message.lane.parse().map_err(|error| WireError::new("lane", format!("{error}")))?;
    Ok(Work { lane, hints: message.hints })
}

fn welcome(message: v1::Welcome) -> Result<Welcome, WireError> {
    let every = wire::required("heartbeat_every", message.heartbeat_every)?;
    let queue = match message.queue.and_then(|queue| queue.kind) {
        Some(v1::queue_access::Kind::Amqp(amqp)) => QueueAccess::Amqp { url: amqp.url, prefix: amqp.prefix },
        Some(v1::queue_access::Kind::Link(_)) | None => QueueAccess::Link,
    };
    Ok(Welcome {
        cluster: message
            .cluster_id
            .parse()
            .map_err(|error| WireError::new("cluster_id", format!("{error}")))?,
        epoch: Epoch(message.epoch),
        heartbeat_every: wire::duration_from("heartbeat_every", &every)?.max(Duration::from_millis(100)),
        queue,
        lanes: wire::lanes_from("lanes", &message.lanes)?,
    })
}
