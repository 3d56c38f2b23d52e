//! The agent: owns its containers, never a job's state. It pulls work that fits what is free on its machine,
//! runs it under limits and deadlines, ships logs, uploads `/out`, and reports how it ended.
//! Must never know SQL, the store's layout or another agent.
//!
//! [`start`] is the whole of it: settings in, a [`Running`] agent out.

pub mod artifacts;
pub mod attempt;
pub mod caches;
pub mod capacity;
pub mod config;
pub mod contracts;
mod control;
pub mod credential;
mod disk;
pub mod exec;
pub mod gpus;
pub mod home;
pub mod host;
pub mod images;
pub mod inputs;
pub mod intake;
pub mod journal;
pub mod link;
pub mod logs;
pub mod machine;
mod recovery;
pub mod runtime;
pub mod secrets;
pub mod shares;
mod sized;
pub mod slots;
pub mod status;
mod transfer;
mod tree;

pub use config::{AgentConfig, OnShutdown};

use attempt::{Attempts, Held, Tools};
use caches::Caches;
use control::Control;
use credential::{Authorities, Wallet};
use exec::Execs;
use home::Home;
use host::Host;
use images::Images;
use intake::Intake;
use journal::Journal;
use link::{Linked, Reporter};
use longshore_common::{agent::AgentIdentity, clock::Timestamp, ids::SessionId, shutdown::Shutdown, tasks};
use machine::{Machine, Sources};
use runtime::Runtime;
use secrets::Vault;
use shares::Shares;
use slots::Slots;
use std::{fmt, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};

/// Of the data directory: one folder per attempt.
const ATTEMPTS: &str = "attempts";
const JOURNAL: &str = "journal";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Home(#[from] home::Error),
    #[error(transparent)]
    Host(#[from] host::Error),
    #[error(transparent)]
    Journal(#[from] journal::Error),
    #[error(transparent)]
    Link(#[from] link::Error),
    #[error(transparent)]
    Logs(#[from] logs::Error),
    #[error(transparent)]
    Artifacts(#[from] artifacts::Error),
    #[error(transparent)]
    Shares(#[from] shares::Error),
    #[error("the folder of caches cannot be read: {0}")]
    Caches(std::io::Error),
    #[error(transparent)]
    Inputs(#[from] inputs::Error),
    #[error("a task of the agent ended early: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// What an agent is made of beside its settings.
pub struct Parts {
    pub runtime: Arc<dyn Runtime>,
    pub host: Arc<dyn Host>,
    pub connect: Connect,
    /// Trusted in transfers, besides the public ones.
    pub authorities: Authorities,
}

/// Makes the link of an agent that presents itself so, until the agent leaves.
pub type Connect =
    Box<dyn FnOnce(AgentIdentity, Arc<dyn Reporter>, Shutdown) -> Result<Linked, link::Error> + Send>;

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts")
            .field("runtime", &self.runtime)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

/// An agent at work.
#[derive(Debug)]
pub struct Running {
    pub identity: AgentIdentity,
    pub held: Held,
    shutdown: Shutdown,
    control: JoinHandle<()>,
}

impl Running {
    /// Stops the intake, leaves or hands back what still runs, and returns when that is done.
    pub async fn stop(self) {
        self.shutdown.trigger();
        self.ended().await;
    }

    /// Returns when the agent has ended because it was told to.
    pub async fn ended(self) {
        if let Err(error) = self.control.await {
            tracing::error!(%error, "the agent's control ended badly");
        }
    }
}

impl Parts {
    /// This machine, its engine, and the controller the settings name.
    pub fn real(config: &AgentConfig, home: &Home) -> Result<Self, Error> {
        let runtime: Arc<dyn Runtime> = match config.runtime.kind {
            runtime::Kind::Docker => {
                let docker = runtime::docker::Docker::new(config.runtime.clone(), home.id());
                let earlier = journal::noted_at(&home.folder(JOURNAL)?);
                Arc::new(docker.with_scratch_in(home.folder(ATTEMPTS)?).after(earlier))
            }
            runtime::Kind::Null => Arc::new(runtime::fake::Fake::bare()),
        };
        let authorities = Authorities::default();
        let wallet = Wallet::open(home, authorities.clone())?;
        let url = config.controller.clone();
        let access = link::grpc::Access::new(&url, config.join_token.clone(), home.id(), wallet)?;
        let heartbeat_every = config.heartbeat_seconds.map(Duration::from_secs);
        let connect: Connect = Box::new(move |identity, reporter, leave| {
            link::grpc::start(
                link::grpc::Settings { url, access, identity, heartbeat_every },
                reporter,
                leave,
            )
        });
        let host = Arc::new(host::Machine::new(&config.host, &config.data_dir)?);
        Ok(Self { runtime, host, connect, authorities })
    }
}

/// Starts an agent on this machine that works until `shutdown`.
pub async fn start(mut config: AgentConfig, shutdown: Shutdown) -> Result<Running, Error> {
    let home = Home::open(&config.data_dir)?;
    // Containers that are only played use nothing of their own: all of the machine's use would be others'.
    config.capacity.others.count &= matches!(config.runtime.kind, runtime::Kind::Docker);
    let parts = Parts::real(&config, &home)?;
    start_with(config, home, parts, shutdown).await
}

/// Only real images are noted, and removed one day.
fn open_images(config: &AgentConfig, home: &Home, runtime: &Arc<dyn runtime::Runtime>) -> Images {
    let book = matches!(config.runtime.kind, runtime::Kind::Docker).then(|| home.file("images.json"));
    Images::open(book, config.images.clone(), Arc::clone(runtime))
}

fn identity(config: &AgentConfig, home: &Home, machine: &Machine) -> AgentIdentity {
    AgentIdentity {
        id: home.id(),
        name: config.name.clone().unwrap_or_else(|| machine.facts().hostname.clone()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        boot_id: machine.facts().boot_id.clone(),
        session: SessionId::new(),
        labels: machine.labels().clone(),
        pool: config.pool.clone(),
    }
}

/// What containers mount beside their scratch, of those attempts alone that may be taken over.
fn open_mounts(
    config: &AgentConfig,
    home: &Home,
    left_behind: &[attempt::Left],
    caches: &Caches,
) -> Result<(Vault, Shares), Error> {
    let vault = Vault::open(home.id(), home.folder("secrets")?);
    let shares = Shares::open(&config.shares, home.folder("shares")?)?;
    let names =
        left_behind.iter().map(|left| runtime::folder_name(&left.intent.short_id, &left.intent.attempt));
    let names = names.collect();
    vault.keep_only(&names);
    shares.keep_only(&names);
    for attempt::Left { intent, .. } in left_behind {
        caches.hold(intent.attempt, &intent.project, intent.spec.caches.keys());
    }
    Ok((vault, shares))
}

fn open_journal(config: &AgentConfig, home: &Home) -> Result<Journal, Error> {
    Ok(match config.runtime.kind {
        runtime::Kind::Docker => Journal::open(&home.folder(JOURNAL)?)?,
        runtime::Kind::Null => Journal::none(),
    })
}

/// What carries logs and outputs away, and inputs here.
fn movers(
    config: &AgentConfig,
    home: &Home,
    controller: &Arc<dyn link::Controller>,
    authorities: &Authorities,
) -> Result<(logs::LogShipper, artifacts::Uploader, inputs::Fetcher), Error> {
    let to = || Arc::clone(controller);
    let network = &config.runtime.network;
    Ok((
        logs::LogShipper::start(to(), &home.folder("logs")?, config.logs.clone())?,
        artifacts::Uploader::new(to(), config.artifacts.clone(), authorities)?,
        inputs::Fetcher::new(to(), config.inputs.clone(), network, authorities)?,
    ))
}

fn sources(
    config: &AgentConfig,
    home: &Home,
    host: Arc<dyn Host>,
    runtime: &Arc<dyn runtime::Runtime>,
) -> Result<Sources, Error> {
    Ok(Sources {
        caches: Caches::open(home.folder("caches")?, config.caches.clone()).map_err(Error::Caches)?,
        host,
        runtime: Arc::clone(runtime),
        slots: Slots::new(config.attempts_at_most()),
        held: Held::default(),
        images: open_images(config, home, runtime),
        gpus: config.gpus.clone(),
        gpu_health: home.file("gpu-health.json"),
        engine_away: Arc::new(Notify::new()),
    })
}

async fn start_machine(
    config: &AgentConfig,
    shares: &Shares,
    sources: Sources,
    leave: &Shutdown,
) -> Result<Arc<Machine>, Error> {
    let labels = config.labels.clone().into_iter().chain(shares.labels()).collect();
    let (capacity, pool) = (config.capacity.clone(), config.pool.clone());
    Ok(Arc::new(Machine::start(capacity, labels, pool, sources, leave).await?))
}

fn serve_status(
    group: Option<String>,
    home: &Home,
    told: status::Sources,
    leave: &Shutdown,
) -> Result<(), Error> {
    let (socket, making) = (home.file(status::NAME), home.folder("status")?);
    drop(tasks::spawn("status", status::serve(socket, making, group, told, leave.clone())));
    Ok(())
}

/// As `start`, of other parts.
pub async fn start_with(
    config: AgentConfig,
    home: Home,
    parts: Parts,
    shutdown: Shutdown,
) -> Result<Running, Error> {
    // The link and the watchers live on until everything is handed back.
    let leave = Shutdown::new();
    let sources = sources(&config, &home, parts.host, &parts.runtime)?;
    let (slots, held, images) = (sources.slots.clone(), sources.held.clone(), sources.images.clone());
    let engine_away = Arc::clone(&sources.engine_away);
    // Before the first heartbeat and the first offer.
    let journal = open_journal(&config, &home)?;
    let left_behind = recovery::admit(&journal, &held, &slots)?;
    let caches = sources.caches.clone();
    let (vault, shares) = open_mounts(&config, &home, &left_behind, &caches)?;
    // Without a journal nobody could take over what was left.
    let on_shutdown = if journal.is_kept() { config.on_shutdown } else { OnShutdown::Drain };
    let machine = start_machine(&config, &shares, sources, &leave).await?;
    let identity = identity(&config, &home, &machine);
    let reporter: Arc<dyn Reporter> = Arc::<Machine>::clone(&machine);
    let Linked { controller, events, bell } = (parts.connect)(identity.clone(), reporter, leave.clone())?;
    let (logs, uploads, inputs) = movers(&config, &home, &controller, &parts.authorities)?;
    let attempts = Attempts::new(Tools {
        container_env: config.container_env.clone(),
        walls: attempt::Walls::new(&config.runtime),
        leave_grace: Duration::from_secs(config.stop_grace_seconds),
        leave_uploads: Duration::from_secs(config.shutdown_upload_seconds),
        keep_files: Duration::from_secs(config.artifacts.keep_seconds),
        agent: home.id(),
        boot_id: machine.facts().boot_id.clone(),
        dir: home.folder(ATTEMPTS)?,
        logs,
        uploads,
        inputs,
        controller: Arc::clone(&controller),
        runtime: parts.runtime,
        images,
        vault,
        shares,
        caches: caches.clone(),
        journal,
        held: held.clone(),
        slots: slots.clone(),
        engine_away,
    });
    let (door, doors) = watch::channel(None);
    let (orders, ordered) = watch::channel(longshore_common::fleet::Orders::default());
    let (link, news) = watch::channel(status::LinkNews::new());
    let told = status::Sources {
        identity: identity.clone(),
        controller: config.controller,
        since: Timestamp::now(),
        machine: Arc::clone(&machine),
        held: held.clone(),
        caches,
        link: news,
        orders: ordered.clone(),
    };
    serve_status(config.status_group, &home, told, &leave)?;
    let intake = Intake {
        controller,
        machine: Arc::clone(&machine),
        slots,
        attempts: attempts.clone(),
        door: doors,
        orders: ordered,
        stop: shutdown.child(),
    };
    let control = Control {
        home,
        on_shutdown,
        grace: Duration::from_secs(config.shutdown_grace_seconds),
        machine,
        execs: Execs::new(config.exec, &attempts),
        attempts,
        events,
        bell,
        door,
        orders,
        link,
        shutdown: shutdown.clone(),
        leave,
    };
    let control = tasks::spawn("control", control.run(intake, left_behind));
    Ok(Running { identity, held, shutdown, control })
}

#[cfg(test)]
mod tests;
