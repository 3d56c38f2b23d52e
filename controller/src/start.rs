//! Puts the parts together, in the order in which they need each other, and takes them apart again.

use crate::{
    actions::Actions,
    api::{self, Context, Execs, QueueAccess, Waiters},
    blobs::{self, Blobs, Directory, S3},
    broker_users::{self, BrokerUsers},
    config::{ConfigError, ControllerConfig, RabbitConfig},
    counters::Counters,
    disk::Disk,
    enrolment::{self, Enrolment, NewJoinToken},
    http,
    identity::{self, Identity},
    jobs::{self, Jobs},
    links::Links,
    log_store::{Files, LogStore},
    pki::{self, Pki, Policy},
    reconcile::Reconcilers,
    run_keys::{self, RunKeys},
    secrets::{self, Secrets},
    store::{self, Store},
    triggers::{self, SourceError, Sources, Triggers},
};
use longshore_common::{
    ids::AgentId,
    queue::{
        self, Publisher,
        link::Hub,
        rabbit::{Broker, RabbitPublisher},
    },
    shutdown::Shutdown,
    tasks,
};
use std::{fs, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::{net::TcpListener, task::JoinHandle, time::Instant};

/// Why the controller did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("cannot listen on {address}: {error}")]
    Listen { address: SocketAddr, error: io::Error },
    #[error("data directory {}: {error}", path.display())]
    DataDir { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Jobs(#[from] jobs::Error),
    #[error(transparent)]
    Identity(#[from] identity::Error),
    #[error(transparent)]
    Secrets(#[from] secrets::Error),
    #[error(transparent)]
    RunKeys(#[from] run_keys::Error),
    #[error(transparent)]
    Blobs(#[from] blobs::Error),
    #[error(transparent)]
    Pki(#[from] pki::Error),
    #[error(transparent)]
    Enrolment(#[from] enrolment::Error),
    #[error(transparent)]
    Triggers(#[from] triggers::Error),
    #[error(transparent)]
    Sources(#[from] SourceError),
    #[error(transparent)]
    Queue(#[from] queue::Error),
    #[error(transparent)]
    BrokerUsers(#[from] broker_users::Error),
    #[error("the descriptor set does not read: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

impl StartError {
    /// Whether starting again without a change may help.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Store(error) => error.is_transient(),
            Self::Jobs(error) => error.is_transient(),
            Self::Identity(error) => error.is_transient(),
            Self::Secrets(error) => error.is_transient(),
            Self::RunKeys(error) => error.is_transient(),
            Self::Blobs(error) => error.is_transient(),
            Self::Queue(error) => error.is_transient(),
            Self::BrokerUsers(error) => error.is_transient(),
            Self::Enrolment(error) => error.is_transient(),
            Self::Triggers(error) => error.is_transient(),
            Self::Pki(_)
            | Self::Config(_)
            | Self::Sources(_)
            | Self::Listen { .. }
            | Self::DataDir { .. }
            | Self::Reflection(_) => false,
        }
    }
}

/// Nobody shall forget it.
const INSECURE_REMINDER: Duration = Duration::from_secs(3600);

/// Makes a new first token while no controller runs, and answers the file it lies in.
pub async fn renew_admin_token(config: &ControllerConfig) -> Result<PathBuf, StartError> {
    let path = config.data_dir.join("longshore.db");
    let store = Store::open(&store::Config { path, ..store::Config::default() }).await?;
    let jobs = Jobs::start(store.clone(), config.jobs.clone()).await?;
    let identity = Identity::start(&jobs, &config.data_dir, &config.limits, Shutdown::new()).await?;
    let file = identity.renew_admin(&config.data_dir).await?;
    store.close().await;
    Ok(file)
}

#[derive(Debug)]
pub struct Controller;

/// A controller that serves. Dropping it does not stop it: trigger `shutdown`, then `join`.
#[derive(Debug)]
pub struct Running {
    pub local_addr: SocketAddr,
    /// What clients and agents are told to use.
    pub base_url: String,
    pub shutdown: Shutdown,
    pub context: Arc<Context>,
    store: Store,
    served: JoinHandle<()>,
    reconcilers: Reconcilers,
}

impl Controller {
    /// Returns when calls are answered. Port 0 takes a free one.
    pub async fn start(config: ControllerConfig, shutdown: Shutdown) -> Result<Running, StartError> {
        let data_dir = config.data_dir.clone();
        let at = |path: PathBuf| move |error| StartError::DataDir { path, error };
        private_dir(&data_dir).map_err(at(data_dir.clone()))?;
        // First of all: its lock keeps a second controller from touching anything else.
        let path = data_dir.join("longshore.db");
        let store = Store::open(&store::Config { path, ..store::Config::default() }).await?;
        let listener = TcpListener::bind(config.listen).await;
        let listener = listener.map_err(|error| StartError::Listen { address: config.listen, error })?;
        let local_addr =
            listener.local_addr().map_err(|error| StartError::Listen { address: config.listen, error })?;
        let base_url = config.base_url(local_addr)?;
        let tls = open_tls(&config, local_addr, &base_url, &shutdown)?;
        let enrolment = Enrolment::open(store.clone(), tls.clone(), config.enrolment.clone()).await?;
        let logs =
            Files::open(&data_dir.join("logs"), config.logs.clone()).map_err(at(data_dir.join("logs")))?;
        let (blobs, directory) = open_blobs(&config, &base_url)?;
        let (publisher, mut queue) = open_queue(config.rabbitmq.as_ref())?;
        let jobs = Jobs::start(store.clone(), config.jobs.clone()).await?;
        let identity = Identity::start(&jobs, &data_dir, &config.limits, shutdown.clone()).await?;
        let secrets = Secrets::start(&jobs, &config.secrets, &data_dir).await?;
        let run_keys = RunKeys::open(&config.minters, (&jobs, &secrets, &store)).await?;
        let logs: Arc<dyn LogStore> = Arc::new(logs);
        let bytes = (Arc::clone(&blobs), Arc::clone(&logs));
        let mut reconcilers =
            Reconcilers::start(&config.reconcile, &jobs, Arc::clone(&publisher), bytes, &shutdown);
        if let (Some(rabbitmq), QueueAccess::Amqp { users, .. }) = (&config.rabbitmq, &mut queue) {
            *users = BrokerUsers::open(rabbitmq, &store, &jobs, &secrets)?;
            if let Some(users) = users {
                reconcilers = reconcilers.with_broker_users(users.clone(), &shutdown);
            }
        }
        let disk = Disk::watch(&data_dir, config.disk_floor_bytes, shutdown.clone());
        let triggers = open_triggers(&config, &jobs, (&identity, &secrets), &disk).await?;
        let reconcilers =
            reconcilers.with_triggers(&triggers, &shutdown).with_run_keys(run_keys.clone(), &jobs, &shutdown);
        let context = Arc::new(Context {
            enrolment,
            base_url: base_url.clone(),
            lag: reconcilers.lag(),
            logs,
            blobs,
            publisher,
            queue,
            links: Links::start(&jobs, shutdown.clone()),
            execs: Execs::default(),
            waiters: Waiters::start(&jobs, shutdown.clone()),
            disk,
            triggers,
            counters: Counters::default(),
            config: config.api.clone(),
            started: Instant::now(),
            shutdown: shutdown.clone(),
            identity,
            secrets,
            run_keys,
            actions: Actions::new(&jobs),
            jobs,
        });
        let routes = api::routes(&context)
            .await?
            .into_axum_router()
            .merge(http::routes(Arc::clone(&context), directory))
            .fallback(http::not_found);
        let router = api::auth::guarded(&context, routes);
        tracing::info!(%local_addr, %base_url, data_dir = %data_dir.display(), "controller is up");
        let served = tasks::spawn("serve", http::serve(listener, router, tls, config.http, shutdown.clone()));
        Ok(Running { local_addr, base_url, shutdown, context, store, served, reconcilers })
    }
}

impl Running {
    /// For agents of the same process: nobody has to paste it.
    pub async fn join_token(&self, uses: u32, valid: Duration) -> Result<String, enrolment::Error> {
        let new = NewJoinToken { uses, valid, created_by: "this process".to_owned() };
        Ok(self.context.enrolment.create_join_token(new).await?.0.reveal())
    }

    /// A key for an agent that never joins by itself, as simulated ones do not.
    pub async fn enrol(&self, agent: AgentId) -> Result<String, enrolment::Error> {
        Ok(self.context.enrolment.admit(agent).await?.reveal())
    }

    /// Returns when every call has ended and nothing is written any more.
    pub async fn join(self) {
        if self.served.await.is_err() {
            tracing::error!("the server ended by a panic");
        }
        self.reconcilers.join().await;
        self.store.close().await;
        tracing::info!("controller has left");
    }
}

/// `None`: no TLS.
fn open_tls(
    config: &ControllerConfig,
    local: SocketAddr,
    base_url: &str,
    shutdown: &Shutdown,
) -> Result<Option<Pki>, StartError> {
    match config.policy(local)? {
        Policy::PlainLocal => Ok(None),
        Policy::PlainInsecure => {
            let shutdown = shutdown.clone();
            tasks::spawn("insecure", async move {
                loop {
                    tracing::warn!(
                        %local,
                        "PLAIN TEXT: whoever is on the network reads and changes every token, secret, log and file; \
                         take --insecure (tls.insecure) away to have TLS"
                    );
                    tokio::select! {
                        () = shutdown.triggered() => return,
                        () = tokio::time::sleep(INSECURE_REMINDER) => {}
                    }
                }
            });
            Ok(None)
        }
        Policy::Tls => {
            let url = url::Url::parse(base_url).ok();
            let host = url.as_ref().and_then(url::Url::host_str).unwrap_or("localhost");
            let pki = Pki::open(&config.tls, &config.data_dir, host)?;
            pki.keep_fresh(shutdown.clone());
            tracing::info!(fingerprint = hex::encode(pki.fingerprint()), "TLS is on");
            Ok(Some(pki))
        }
    }
}

/// Made for its owner alone: it holds environments, logs and the key that signs addresses. One that was there keeps
/// the mode somebody gave it.
fn private_dir(path: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    if path.is_dir() { Ok(()) } else { fs::DirBuilder::new().recursive(true).mode(0o700).create(path) }
}

async fn open_triggers(
    config: &ControllerConfig,
    jobs: &Jobs,
    (identity, secrets): (&Identity, &Secrets),
    disk: &Disk,
) -> Result<Triggers, StartError> {
    let parts = triggers::Parts {
        jobs: jobs.clone(),
        identity: identity.clone(),
        secrets: secrets.clone(),
        disk: disk.clone(),
        sources: Sources::open(&config.object_sources, config.s3.as_ref())?,
    };
    Ok(Triggers::start(parts, config.triggers.clone()).await?)
}

fn open_blobs(
    config: &ControllerConfig,
    base_url: &str,
) -> Result<(Arc<dyn Blobs>, Option<Directory>), StartError> {
    if let Some(s3) = &config.s3 {
        return Ok((Arc::new(S3::new(s3.clone())?), None));
    }
    let path = config.data_dir.join("blobs");
    let directory = Directory::open(&path, base_url, config.disk_floor_bytes / 2)
        .map_err(|error| StartError::DataDir { path, error })?;
    Ok((Arc::new(directory.clone()), Some(directory)))
}

fn open_queue(rabbitmq: Option<&RabbitConfig>) -> Result<(Arc<dyn Publisher>, QueueAccess), StartError> {
    let Some(rabbitmq) = rabbitmq else {
        let hub = Hub::new();
        return Ok((Arc::new(hub.clone()), QueueAccess::Link(hub)));
    };
    let RabbitConfig { url, prefix, .. } = rabbitmq;
    let publisher = RabbitPublisher::start(Broker::new(url, prefix)?);
    let access =
        QueueAccess::Amqp { url: rabbitmq.for_agents().to_owned(), prefix: prefix.clone(), users: None };
    Ok((Arc::new(publisher), access))
}
