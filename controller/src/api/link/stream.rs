//! One agent's link: hello, heartbeats and turns up; welcome, renewals, stops and work down. Ends when either side
//! does, when a newer link of the same agent comes, or when this process leaves.

use super::{Caller, Context, status};
use crate::{
    api::QueueAccess,
    jobs::AgentReport,
    links::{Command, Linked},
};
use futures::Stream;
use longshore_common::{
    agent::{Gpu, HeldAttempt},
    clock::Timestamp,
    fleet::{Cordon, Orders},
    queue::{
        Lane,
        link::{Line, Turn},
    },
    tasks,
    wire::{self, Greeting, WireError},
};
use longshore_proto::v1::{self, link_request::Message as Up, link_response::Message};
use std::{pin::Pin, sync::Arc, time::Duration};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

pub(super) type Down = Pin<Box<dyn Stream<Item = Result<v1::LinkResponse, Status>> + Send>>;

const HELLO_PATIENCE: Duration = Duration::from_secs(10);
/// Of one machine, with their instances: each may be an event with every heartbeat.
const MOST_GPUS: usize = 512;
/// What an agent that was told to stop may still say to take: longer than any run.
const LONGEST_STAY: Duration = Duration::from_secs(365 * 24 * 3600);
/// Messages on their way down; the agent reads them at once, or it is stuck.
const WAITING: usize = 64;

pub(super) async fn open(
    context: &Arc<Context>,
    caller: Caller,
    mut up: Streaming<v1::LinkRequest>,
) -> Result<Down, Status> {
    let first = tokio::time::timeout(HELLO_PATIENCE, up.message())
        .await
        .map_err(|_| Status::deadline_exceeded("no hello came; the first message of a link must be one"))??;
    let Some(v1::LinkRequest { message: Some(Up::Hello(hello)) }) = first else {
        return Err(status::field("message", "the first message of a link must be a hello"));
    };
    let greeting = Greeting::try_from(hello).map_err(|error| status::invalid(error.under("hello")))?;
    caller.is(greeting.identity.id)?;
    let protocol = settled(&greeting)?;
    let lanes = lanes(&greeting.identity.pool, protocol);
    context.jobs.hello(greeting.identity.clone(), greeting.inventory.clone()).await.map_err(status::jobs)?;
    context.jobs.agent_speaks(greeting.identity.id, protocol);
    if let Err(error) = context.publisher.declare(&lanes).await {
        // The publish loop declares again; the agent's consumer waits for it.
        tracing::warn!(%error, pool = greeting.identity.pool, "lanes are not declared");
    }
    let line = match &context.queue {
        QueueAccess::Link(hub) => Some(hub.connect(!greeting.inventory.gpus.is_empty())),
        QueueAccess::Amqp { .. } => None,
    };
    let queue = queue(context, &caller, &lanes).await?;
    let linked = context.links.enter(greeting.identity.id, greeting.identity.session);
    let (down, messages) = mpsc::channel(WAITING);
    tracing::info!(agent.id = %greeting.identity.id, agent.name = greeting.identity.name, "agent linked");
    let orders = context.jobs.nudges().fleet_changes();
    let told = Orders::default();
    let session = Session { context: Arc::clone(context), caller, linked, line, down, orders, told };
    let welcome = welcome(context, &lanes, protocol, queue);
    tasks::spawn("agent link", session.run(welcome, up));
    Ok(Box::pin(ReceiverStream::new(messages)))
}

/// From which protocol on an agent knows the lane of jobs that share a GPU. One that does not takes none of them.
const KNOWS_SHARED: u32 = 2;

fn lanes(pool: &str, protocol: u32) -> Vec<Lane> {
    Lane::of_pool(pool).into_iter().filter(|lane| protocol >= KNOWS_SHARED || !lane.is_shared()).collect()
}

/// The protocol that both speak.
fn settled(greeting: &Greeting) -> Result<u32, Status> {
    let theirs = greeting.protocol_min..=greeting.protocol_max;
    if let Some(protocol) = wire::common_protocol(theirs) {
        return Ok(protocol);
    }
    let (ours, version) = (wire::PROTOCOLS, env!("CARGO_PKG_VERSION"));
    let identity = &greeting.identity;
    let mend = if greeting.protocol_max < *ours.start() {
        format!(
            "upgrade the agent: install longshore {version} there, then `systemctl restart longshore-agent`"
        )
    } else {
        format!(
            "upgrade the controller first: install longshore {} there, then `systemctl restart longshore-controller`",
            identity.version
        )
    };
    Err(Status::invalid_argument(format!(
        "agent {} has version {} and speaks protocols {} to {}; this controller has version {version} and speaks {} \
         to {}: {mend}",
        identity.name,
        identity.version,
        greeting.protocol_min,
        greeting.protocol_max,
        ours.start(),
        ours.end()
    )))
}

/// How this agent reaches the queue.
async fn queue(context: &Context, caller: &Caller, lanes: &[Lane]) -> Result<v1::queue_access::Kind, Status> {
    use v1::queue_access::Kind;
    match &context.queue {
        QueueAccess::Link(_) => Ok(Kind::Link(v1::LinkQueue {})),
        QueueAccess::Amqp { url, prefix, users: None } => {
            Ok(Kind::Amqp(v1::AmqpQueue { url: url.clone(), prefix: prefix.clone() }))
        }
        QueueAccess::Amqp { prefix, users: Some(users), .. } => {
            let access = users.access(caller.agent, lanes).await;
            let url = access.map_err(|error| Status::unavailable(error.to_string()))?;
            // Of one that was removed meanwhile nothing must be left.
            if let Err(denied) = caller.check(context) {
                users.remove(caller.agent).await;
                return Err(denied);
            }
            Ok(Kind::Amqp(v1::AmqpQueue { url, prefix: prefix.clone() }))
        }
    }
}

fn welcome(context: &Context, lanes: &[Lane], protocol: u32, queue: v1::queue_access::Kind) -> v1::Welcome {
    let (cluster, epoch) = context.jobs.cluster();
    v1::Welcome {
        protocol,
        cluster_id: cluster.to_string(),
        epoch: epoch.0,
        heartbeat_every: Some(wire::duration_to(context.config.heartbeat_every)),
        queue: Some(v1::QueueAccess { kind: Some(queue) }),
        lanes: lanes.iter().map(Lane::to_string).collect(),
        ca: context.enrolment.pki().map(|pki| pki.bundle_digest().to_vec().into()).unwrap_or_default(),
    }
}

struct Session {
    context: Arc<Context>,
    caller: Caller,
    linked: Linked,
    line: Option<Line>,
    down: mpsc::Sender<Result<v1::LinkResponse, Status>>,
    orders: watch::Receiver<u64>,
    /// What the agent was told last.
    told: Orders,
}

/// The link is over: the agent has gone, or was told why.
struct Over;

impl Session {
    async fn run(mut self, welcome: v1::Welcome, mut up: Streaming<v1::LinkRequest>) {
        let orders = self.context.jobs.orders(self.linked.agent());
        self.told.clone_from(&orders);
        let welcomed = match self.send(Message::Welcome(welcome)).await {
            Ok(()) => self.send(Message::Orders((&orders).into())).await,
            Err(Over) => Err(Over),
        };
        let reason = match welcomed {
            Ok(()) => self.serve(&mut up).await,
            Err(Over) => "the agent went before its welcome",
        };
        tracing::info!(agent.id = %self.linked.agent(), reason, "agent link ended");
    }

    async fn serve(&mut self, up: &mut Streaming<v1::LinkRequest>) -> &'static str {
        let shutdown = self.context.shutdown.clone();
        loop {
            let done = tokio::select! {
                message = up.message() => match message {
                    Ok(Some(message)) => self.hear(message).await,
                    Ok(None) => return "the agent closed it",
                    Err(_) => return "the connection broke",
                },
                command = self.linked.command() => match command {
                    Some(Command::Stop(stop)) => {
                        self.send(Message::Stop(wire::stop_to(stop.attempt, stop.reason))).await
                    }
                    Some(Command::Exec(session, attempt)) => {
                        self.send(Message::Exec(wire::exec_order(session, attempt))).await
                    }
                    Some(Command::ResetGpu(gpu)) => self.send(Message::ResetGpu(v1::ResetGpu { gpu })).await,
                    None => return self.replaced().await,
                },
                Ok(()) = self.orders.changed() => self.order().await,
                work = next_work(self.line.as_ref()) => {
                    let work = v1::Work { lane: work.lane.to_string(), hints: work.hints };
                    self.send(Message::Work(work)).await
                }
                () = shutdown.triggered() => {
                    drop(self.down.send(Err(status::leaving())).await);
                    return "the controller leaves";
                }
            };
            if let Err(Over) = done {
                return "the agent broke it off or was refused";
            }
        }
    }

    /// By a newer link, or because the agent was removed.
    async fn replaced(&self) -> &'static str {
        let Err(denied) = self.caller.check(&self.context) else {
            return "a newer link of the agent took its place";
        };
        drop(self.down.send(Err(denied)).await);
        "the agent was removed"
    }

    /// Tells what is wanted of the machine, if that is new.
    async fn order(&mut self) -> Result<(), Over> {
        let orders = self.context.jobs.orders(self.linked.agent());
        if orders == self.told {
            return Ok(());
        }
        self.told.clone_from(&orders);
        self.send(Message::Orders((&orders).into())).await
    }

    async fn hear(&mut self, message: v1::LinkRequest) -> Result<(), Over> {
        if let Err(denied) = self.caller.check(&self.context) {
            drop(self.down.send(Err(denied)).await);
            return Err(Over);
        }
        let heard = match message.message {
            Some(Up::Heartbeat(heartbeat)) => self.heartbeat(heartbeat).await,
            Some(Up::Listen(listen)) => self.listen(listen),
            Some(Up::Leaving(_)) => {
                self.context.jobs.agent_leaves(self.linked.agent(), self.linked.session());
                Err(Refused::Over)
            }
            Some(Up::Hello(_)) => Err(Refused::Message(WireError::new("message", "a second hello"))),
            None => Ok(()),
        };
        match heard {
            Ok(()) => Ok(()),
            Err(Refused::Over) => Err(Over),
            Err(Refused::Message(error)) => {
                tracing::warn!(agent.id = %self.linked.agent(), %error, "agent sent what is no message");
                drop(self.down.send(Err(status::invalid(error))).await);
                Err(Over)
            }
        }
    }

    async fn heartbeat(&mut self, heartbeat: v1::Heartbeat) -> Result<(), Refused> {
        if !self.linked.is_current() {
            // Of a process that has gone: what it listed is for its successor to say.
            return Err(Refused::Over);
        }
        if heartbeat.gpus.len() > MOST_GPUS {
            let problem = format!("lists {} GPUs; at most {MOST_GPUS}", heartbeat.gpus.len());
            return Err(Refused::Message(WireError::new("heartbeat.gpus", problem)));
        }
        let sequence = heartbeat.sequence;
        let held = heartbeat.held.into_iter().map(HeldAttempt::try_from).collect::<Result<_, _>>()?;
        let agent = self.linked.agent();
        let report = AgentReport {
            free: heartbeat.free.map(Into::into).unwrap_or_default(),
            gpus: heartbeat.gpus.into_iter().map(Gpu::from).collect(),
            note: heartbeat.note,
            closed: heartbeat.closed_because,
            slots: heartbeat.slots,
            disk_low: heartbeat.disk_low,
            holdings: heartbeat.holdings.map(Into::into),
            caches_bytes: heartbeat.caches_bytes,
            leaving: heartbeat.leaving.as_ref().map(leaving).transpose()?,
        };
        self.context.jobs.agent_report(agent, report);
        let answer = match self.context.jobs.heartbeat(agent, held).await {
            Ok(answer) => answer,
            Err(error) => {
                // Unanswered: the agent counts its lease from the last renewal it saw.
                tracing::warn!(agent.id = %agent, %error, "a heartbeat was not stored");
                return Ok(());
            }
        };
        let fenced = answer.fenced.into_iter().map(v1::AttemptRef::from).collect();
        let expired = answer.expired.into_iter().map(v1::AttemptRef::from).collect();
        self.send(Message::Renewed(v1::Renewed { sequence, fenced, expired })).await?;
        for (attempt, reason) in answer.stops {
            self.send(Message::Stop(wire::stop_to(attempt, reason))).await?;
        }
        Ok(())
    }

    fn listen(&self, listen: v1::Listen) -> Result<(), Refused> {
        let turn = Turn {
            lanes: wire::lanes_from("listen.lanes", &listen.lanes)?,
            acked: wire::hints_from(listen.acked)?,
            returned: wire::hints_from(listen.returned)?,
        };
        if let Some(line) = &self.line {
            line.turn(turn);
        }
        Ok(())
    }

    async fn send(&self, message: Message) -> Result<(), Over> {
        let message = v1::LinkResponse { message: Some(message) };
        self.down.send(Ok(message)).await.map_err(|_| Over)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Of the same session too, a newer link may be up already.
        if !self.linked.is_current() {
            return;
        }
        self.context.jobs.agent_left(self.linked.agent(), self.linked.session());
    }
}

/// Counted from now: nobody compares two machines' clocks.
fn leaving(left: &prost_types::Duration) -> Result<Cordon, WireError> {
    let left = wire::duration_from("heartbeat.leaving", left)?.min(LONGEST_STAY);
    Ok(Cordon::leaving(Timestamp::now(), left))
}

/// Why a message from below ends the link.
enum Refused {
    Message(WireError),
    Over,
}

impl From<WireError> for Refused {
    fn from(error: WireError) -> Self {
        Self::Message(error)
    }
}

impl From<Over> for Refused {
    fn from(_: Over) -> Self {
        Self::Over
    }
}

async fn next_work(line: Option<&Line>) -> longshore_common::queue::link::Work {
    match line {
        Some(line) => line.next().await,
        // RabbitMQ rings: nothing comes from here.
        None => std::future::pending().await,
    }
}
