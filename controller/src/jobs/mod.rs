//! The commands on jobs, one file each: load, `lifecycle::step`, save. The only callers of the store's writes.
//! Must never speak to an agent or a client: what follows from a commit goes out through [`Nudges`].

mod access;
mod actions;
mod after;
mod agents;
mod batches;
mod cancel;
mod chores;
mod claim;
mod command;
mod error;
mod expire;
mod explain;
mod finish;
mod fleet;
mod former;
mod grants;
mod heartbeat;
mod inputs;
mod leases;
mod ledger;
mod live;
mod nudges;
mod pin;
mod projects;
mod query;
mod reasons;
mod remove;
mod reserved;
mod retry;
mod search;
mod secrets;
mod sight;
mod submit;
#[cfg(test)]
mod tests;
mod token;
mod triggers;
mod turns;
mod types;
mod view;
mod work;
mod writer;

pub use access::AuditFilter;
pub use batches::{
    BatchCounts, BatchError, BatchFilter, BatchView, LARGEST_BATCH, MadeBatch, NewBatch, Room,
};
pub use error::{Error, ResolveError};
pub(crate) use fleet::FleetWatch;
pub use nudges::{Changes, Nudges, Stop, Work};
pub use secrets::OwnSecret;
pub use types::*;
pub(crate) use view::runs;

use crate::store::{Cluster, Store};
use chores::Chore;
use command::{Call, Command};
use longshore_common::{
    ids::{ClusterId, Epoch},
    job::ImagePolicy,
    tasks,
};
use serde::{Deserialize, Serialize};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::mpsc;

/// Settings of the commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How long an ended job is kept with its log and artifacts.
    pub retention: Duration,
    /// How long past `retention` a `request_id` is remembered.
    pub request_memory: Duration,
    /// The length of a lease unless the job says otherwise: how long an agent may be out of touch before its
    /// attempts are given to others.
    pub disconnect_tolerance: Duration,
    /// How long the answer to a claim may be on its way: no heartbeat within it tells that a grant was lost.
    pub grant_patience: Duration,
    /// A job that waited so long and is passed over has a machine emptied for it.
    pub reserve_after: Duration,
    /// What a project used counts half after this time, when others' shares are weighed against its own.
    pub share_half_life: Duration,
    /// So many machines may pull the same image at once; the others wait their turn.
    pub pulls_at_once: u32,
    /// Which images are taken at submit.
    pub images: ImagePolicy,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // A month: long enough for the holidays of whoever wants the result.
            retention: Duration::from_secs(30 * 24 * 3600),
            // A client that retries a request does so within days, not weeks.
            request_memory: Duration::from_secs(7 * 24 * 3600),
            // A switch that reboots must not cost a day of training.
            disconnect_tolerance: Duration::from_secs(600),
            // An agent asks again when it has had no answer for 15 s, and waits up to 5 s before it does.
            grant_patience: Duration::from_secs(25),
            // Long enough for the usual end of something smaller, short beside a night's training.
            reserve_after: Duration::from_secs(600),
            // A morning's burst is paid back by the evening, not next week.
            share_half_life: Duration::from_secs(3600),
            // Four streams fill a registry's uplink of 10 Gbit/s; more would only make each of them longer.
            pulls_at_once: 4,
            // Which registries a lab trusts nobody else knows.
            images: ImagePolicy::default(),
        }
    }
}

/// The handle on all commands. Cheap to clone; the writer ends with the last one.
#[derive(Clone, Debug)]
pub struct Jobs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

/// What the commands and the writer have in common.
#[derive(Debug)]
struct Shared {
    store: Store,
    config: Config,
    nudges: Nudges,
    live: live::Live,
    agents: agents::Agents,
    projects: projects::Projects,
    fleet: fleet::Board,
    marks: search::Marks,
    ledger: ledger::Ledger,
    reserved: reserved::Reserved,
    cluster: (ClusterId, Epoch),
    token_key: Vec<u8>,
    revision: AtomicU64,
}

impl Shared {
    /// Of the last commit.
    fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    fn set_revision(&self, revision: u64) {
        self.revision.store(revision, Ordering::Release);
    }
}

impl Jobs {
    /// Loads what must be at hand and starts the writer.
    pub async fn start(store: Store, config: Config) -> Result<Self, Error> {
        let Cluster { id, epoch, revision, token_key } = store.cluster().await?;
        let agents = agents::Agents::new(store.agents().await?);
        let live = leases::taken_over(&store, &agents, config.disconnect_tolerance).await?;
        let projects = projects::Projects::new(store.projects().await?);
        let fleet = fleet::Fleet::load(&store).await?;
        let shared = Arc::new(Shared {
            store,
            config,
            nudges: Nudges::new(),
            live,
            agents,
            projects,
            fleet,
            marks: search::Marks::default(),
            ledger: ledger::Ledger::default(),
            reserved: reserved::Reserved::default(),
            cluster: (id, epoch),
            token_key,
            revision: AtomicU64::new(revision),
        });
        // Twice a batch: while one is being committed the next one gathers.
        let (commands, inbox) = mpsc::channel(256);
        drop(tasks::spawn("jobs-writer", writer::run(Arc::clone(&shared), inbox)));
        Ok(Self { inner: Arc::new(Inner { shared, commands }) })
    }

    pub fn cluster(&self) -> (ClusterId, Epoch) {
        self.inner.shared.cluster
    }

    pub fn config(&self) -> &Config {
        &self.inner.shared.config
    }

    /// What follows from commits; subscribe before reading the state.
    pub fn nudges(&self) -> &Nudges {
        &self.inner.shared.nudges
    }

    /// Whether the database answers, and what it is, for `status`.
    pub async fn health(&self) -> Result<String, Error> {
        Ok(self.inner.shared.store.health().await?)
    }

    /// The last committed revision.
    pub fn revision(&self) -> u64 {
        self.inner.shared.revision()
    }

    /// Hands a command to the writer and waits for its commit.
    async fn call<I, O>(&self, command: impl FnOnce(Call<I, O>) -> Command, input: I) -> Result<O, Error> {
        let (call, answer) = Call::new(input);
        self.inner.commands.send(command(call)).await.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }

    async fn chore(&self, chore: Chore) -> Result<u32, Error> {
        self.call(Command::Chore, chore).await
    }

    /// Hands a chore to the writer and does not wait for its commit.
    async fn post(&self, chore: Chore) -> Result<(), Error> {
        let (call, _) = Call::new(chore);
        self.inner.commands.send(Command::Chore(call)).await.map_err(|_| Error::Closed)
    }
}
