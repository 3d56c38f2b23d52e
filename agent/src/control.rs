//! The agent's own life: it passes on what the link says, and when told to stop it ends the intake, waits, hands
//! back or leaves what still runs, and closes the link last. Never touches a container.

use crate::{
    attempt::{Attempts, Cause, Left},
    caches,
    config::OnShutdown,
    exec::Execs,
    home::Home,
    intake::{Door, Intake},
    journal::Contact,
    link::{Event, QueueAccess, Welcome},
    machine::Machine,
    recovery,
    status::LinkNews,
};
use longshore_common::{
    clock::{Moment, Timestamp},
    fleet::{Cordon, Orders},
    queue::{
        self, Consumer,
        link::LinkConsumer,
        rabbit::{Broker, RabbitConsumer},
    },
    shutdown::Shutdown,
    tasks,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, Interval, timeout},
};

/// How long handing back may take beside uploads: finish reports to a slow controller, removals by a slow engine.
const HAND_BACK: Duration = Duration::from_secs(30);

/// Leases last minutes, so that a second more or less is within the controller's grace.
const LEASE_LOOK: Duration = Duration::from_secs(1);

/// A lease that seems so much shorter to the next process does no harm.
const CONTACT_STEP: Duration = Duration::from_secs(30);

/// Bridge and firewall rules; what stays is used or taken away next time.
const LEAVE_NODE: Duration = Duration::from_secs(10);

/// For the link's last word.
const GOODBYE: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct Control {
    /// Locked until the end.
    pub(crate) home: Home,
    pub(crate) on_shutdown: OnShutdown,
    pub(crate) grace: Duration,
    pub(crate) machine: Arc<Machine>,
    pub(crate) attempts: Attempts,
    pub(crate) execs: Execs,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) bell: Arc<LinkConsumer>,
    pub(crate) door: watch::Sender<Option<Door>>,
    pub(crate) orders: watch::Sender<Orders>,
    pub(crate) link: watch::Sender<LinkNews>,
    pub(crate) shutdown: Shutdown,
    pub(crate) leave: Shutdown,
}

impl Control {
    pub(crate) async fn run(mut self, intake: Intake, left_behind: Vec<Left>) {
        let attempts = self.attempts.clone();
        let welcome = self.door.subscribe();
        let recovering = async move { recovery::recover(&attempts, left_behind, welcome).await };
        drop(tasks::spawn("recovery", self.attempts.track(recovering)));
        let (attempts, leave, door) = (self.attempts.clone(), self.leave.clone(), self.door.subscribe());
        let stop = self.leave.clone();
        let (machine, images) = (Arc::clone(&self.machine), self.attempts.tools().images.clone());
        let sweeping = async move {
            tokio::select! {
                () = leave.triggered() => {}
                () = recovery::sweep_kept(attempts.tools()) => {}
                () = recovery::sweep_left(attempts.tools(), door) => {}
            }
        };
        drop(tasks::spawn("sweep", sweeping));
        let collecting = async move {
            tokio::select! {
                () = stop.triggered() => {}
                () = images.collect(&machine) => {}
            }
        };
        drop(tasks::spawn("images", collecting));
        let (attempts, machine, stop) =
            (self.attempts.clone(), Arc::clone(&self.machine), self.leave.clone());
        let keeping = async move {
            let tools = attempts.tools();
            tokio::select! {
                () = stop.triggered() => {}
                () = caches::keep(&tools.caches, &machine, &tools.held) => {}
            }
        };
        drop(tasks::spawn("caches", keeping));
        let intake = tasks::spawn("intake", intake.run());
        let mut access = None;
        let mut leases = tokio::time::interval(LEASE_LOOK);
        loop {
            tokio::select! {
                () = self.shutdown.triggered() => break,
                now = leases.tick() => self.attempts.tools().held.stop_expired(now),
                Some(event) = self.events.recv() => self.heard(event, &mut access),
                else => break,
            }
        }
        self.hand_back(intake, access, leases).await;
        self.leave.trigger();
        match timeout(LEAVE_NODE, self.attempts.tools().runtime.leave()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the agent's network stays on the node"),
            Err(_) => tracing::warn!("the agent's network stays on the node: the engine does not answer"),
        }
        // The link says that it leaves.
        let link = async { while self.events.recv().await.is_some() {} };
        drop(timeout(GOODBYE, link).await);
        drop(self.home);
    }

    fn heard(&self, event: Event, access: &mut Option<QueueAccess>) {
        let held = &self.attempts.tools().held;
        match event {
            Event::Connected(welcome) => {
                self.link.send_modify(LinkNews::connected);
                self.connected(welcome, access);
            }
            Event::Disconnected { reason } => {
                self.link.send_modify(|link| link.disconnected(reason));
                self.door.send_modify(|door| {
                    if let Some(door) = door {
                        door.open = false;
                    }
                });
            }
            Event::Renewed { renewed, fenced, asked_at } => {
                held.renewed(&renewed, asked_at);
                self.note_contact(asked_at);
                for attempt in fenced {
                    held.stop(&attempt, Cause::Revoked);
                }
            }
            Event::Stop { attempt, reason } => held.stop(&attempt, reason.into()),
            Event::ResetGpu(gpu) => {
                let machine = Arc::clone(&self.machine);
                drop(tasks::spawn("reset gpu", async move { machine.reset_gpu(&gpu).await }));
            }
            Event::Orders(orders) => self.ordered(orders),
            Event::Exec { session, attempt } => {
                drop(tasks::spawn("exec", self.attempts.track(self.execs.clone().serve(session, attempt))));
            }
        }
    }

    fn ordered(&self, mut orders: Orders) {
        if self.shutdown.is_triggered() {
            // Its own word, which nobody takes back.
            orders.cordon = self.orders.borrow().cordon.clone();
        }
        let word = |orders: &Orders| orders.cordon.as_ref().map(|cordon| cordon.sentence(Timestamp::now()));
        let (before, now) = (word(&self.orders.borrow()), word(&orders));
        match (before, now) {
            (before, Some(now)) if before.as_ref() != Some(&now) => tracing::info!(%now, "claiming nothing"),
            (Some(_), None) => tracing::info!("no longer cordoned"),
            _ => {}
        }
        self.orders.send_replace(orders);
    }

    /// For the next process, which has to know how much of its leases is left.
    fn note_contact(&self, asked_at: Instant) {
        let tools = self.attempts.tools();
        let (now, ago) = (Moment::now(), asked_at.elapsed());
        let (Some(lease), Some(up)) = (tools.held.shortest_lease(), now.up) else { return };
        let time = Some(now.at.minus(ago));
        let contact = Contact { boot_id: tools.boot_id.clone(), at: up.minus(ago), time };
        let (journal, step) = (tools.journal.clone(), CONTACT_STEP.min(lease / 20));
        drop(tasks::spawn("contact", async move { journal.note_contact(contact, step).await }));
    }

    /// Opens the door. A queue that is reached as before is kept, with what it has consumed.
    fn connected(&self, welcome: Welcome, access: &mut Option<QueueAccess>) {
        let kept = self.door.borrow().as_ref().map(|door| Arc::clone(&door.consumer));
        let consumer = match kept {
            Some(consumer) if *access == Some(welcome.queue.clone()) => consumer,
            _ => match self.consumer(&welcome.queue) {
                Ok(consumer) => consumer,
                Err(error) => {
                    tracing::error!(%error, "the controller names a queue that cannot be used");
                    return;
                }
            },
        };
        *access = Some(welcome.queue);
        let door = Door { cluster: welcome.cluster, lanes: welcome.lanes, consumer, open: true };
        self.door.send_replace(Some(door));
    }

    fn consumer(&self, access: &QueueAccess) -> Result<Arc<dyn Consumer>, queue::Error> {
        match access {
            QueueAccess::Link => {
                let consumer: Arc<dyn Consumer> = Arc::<LinkConsumer>::clone(&self.bell);
                Ok(consumer)
            }
            QueueAccess::Amqp { url, prefix } => {
                let consumer = RabbitConsumer::start(Broker::new(url, prefix)?, self.machine.has_gpus());
                Ok(Arc::new(consumer))
            }
        }
    }

    /// Whoever waits for this machine, or works on it, is to know until when.
    fn announce(&self) {
        self.machine.leaves(Instant::now() + self.grace);
        let leaving = Cordon::leaving(Timestamp::now(), self.grace);
        self.orders.send_modify(|orders| orders.cordon = Some(leaving));
    }

    /// Ends everything in order: no new work, then what runs is left to the next process, or gets a grace and goes
    /// back.
    async fn hand_back(
        &mut self,
        intake: tokio::task::JoinHandle<()>,
        mut access: Option<QueueAccess>,
        mut leases: Interval,
    ) {
        tracing::info!(on_shutdown = ?self.on_shutdown, "stopping");
        if self.on_shutdown == OnShutdown::Drain {
            self.announce();
        }
        let attempts = self.attempts.clone();
        let handing_back = async {
            if let Err(error) = intake.await {
                tracing::error!(%error, "the intake ended badly");
            }
            let done = attempts.done();
            tokio::pin!(done);
            let cause = match self.on_shutdown {
                OnShutdown::Leave => Cause::Leaving,
                OnShutdown::Drain if timeout(self.grace, &mut done).await.is_ok() => return,
                OnShutdown::Drain => Cause::HandingBack,
            };
            attempts.tools().held.stop_all(&cause);
            if timeout(attempts.tools().leave_uploads + HAND_BACK, &mut done).await.is_err() {
                tracing::warn!("leaving with attempts under way; the next process goes on with them");
            }
        };
        tokio::pin!(handing_back);
        loop {
            tokio::select! {
                () = &mut handing_back => return,
                // Stops, renewals and their absence still count.
                now = leases.tick() => self.attempts.tools().held.stop_expired(now),
                Some(event) = self.events.recv() => self.heard(event, &mut access),
            }
        }
    }
}
