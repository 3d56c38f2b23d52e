//! gRPC: one file per group of calls. Reads requests, calls `jobs`, `blobs` and `log_store`, writes answers. Decides
//! nothing about a job.

mod access;
mod actions;
mod agents;
mod artifacts;
pub mod auth;
mod batches;
mod cluster;
mod enrolment;
mod exec;
mod execs;
mod inputs;
mod jobs;
mod link;
mod logs;
mod projects;
mod secrets;
mod status;
mod submit;
mod triggers;
mod views;
mod waiters;
mod watch;

pub(crate) use cluster::parts;
pub use execs::Execs;
pub use waiters::Waiters;

use crate::{
    actions::Actions, blobs::Blobs, broker_users::BrokerUsers, counters::Counters, disk::Disk,
    enrolment::Enrolment, identity::Identity, jobs::Jobs, links::Links, log_store::LogStore,
    run_keys::RunKeys, secrets::Secrets, triggers::Triggers,
};
use longshore_common::{queue::Publisher, shutdown::Shutdown};
use longshore_proto::v1;
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::Instant;
use tonic::{Status, service::Routes};

/// The most bytes of one request; a larger one is refused. Submit a batch in pieces of this size.
pub const MESSAGE_LIMIT: usize = 16 << 20;
/// Of a job, or an action.
const LARGEST_SPEC: usize = 1 << 20;
/// Of calls that carry names and settings.
const SMALL: usize = 256 << 10;
/// Of calls that strangers may make: each that is not whole yet holds as much.
const TINY: usize = 16 << 10;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How often agents say what they hold.
    pub heartbeat_every: Duration,
    /// How long a signed address to read from holds.
    pub read_valid: Duration,
    /// How long a signed address to write to holds.
    pub write_valid: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // Twelve missed ones are a minute: far below the lease, cheap for a thousand agents.
            heartbeat_every: Duration::from_secs(5),
            // A download of a page of files begins within the hour; a resumed one asks again.
            read_valid: Duration::from_secs(3600),
            // A terabyte over a slow line is uploaded in parts that were all signed at its beginning.
            write_valid: Duration::from_secs(24 * 3600),
        }
    }
}

/// How agents reach the queue.
#[derive(Clone)]
pub enum QueueAccess {
    Link(longshore_common::queue::link::Hub),
    Amqp {
        url: String,
        prefix: String,
        /// `None`: all agents share the address.
        users: Option<BrokerUsers>,
    },
}

impl fmt::Debug for QueueAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(_) => f.write_str("Link"),
            // The address holds a password.
            Self::Amqp { prefix, .. } => {
                f.debug_struct("Amqp").field("prefix", prefix).finish_non_exhaustive()
            }
        }
    }
}

impl QueueAccess {
    /// `None`: agents have no users of their own.
    pub fn users(&self) -> Option<&BrokerUsers> {
        match self {
            Self::Link(_) => None,
            Self::Amqp { users, .. } => users.as_ref(),
        }
    }
}

/// What every call needs.
#[derive(Debug)]
pub struct Context {
    pub jobs: Jobs,
    pub identity: Identity,
    /// Who may be an agent.
    pub enrolment: Enrolment,
    /// What clients and agents are told to use.
    pub base_url: String,
    pub secrets: Secrets,
    pub triggers: Triggers,
    pub actions: Actions,
    pub run_keys: RunKeys,
    pub logs: Arc<dyn LogStore>,
    pub blobs: Arc<dyn Blobs>,
    pub publisher: Arc<dyn Publisher>,
    /// For how long queued work has been without a hint.
    pub lag: crate::reconcile::Lag,
    pub queue: QueueAccess,
    pub links: Links,
    pub execs: Execs,
    pub waiters: Waiters,
    pub disk: Disk,
    pub counters: Counters,
    pub config: Config,
    pub started: Instant,
    pub shutdown: Shutdown,
}

/// All services, reflection and health.
pub async fn routes(context: &Arc<Context>) -> Result<Routes, tonic_reflection::server::Error> {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(longshore_proto::DESCRIPTOR_SET)
        .build_v1()?;
    let (health, health_server) = tonic_health::server::health_reporter();
    let jobs = v1::jobs_server::JobsServer::new(jobs::Service(Arc::clone(context)));
    let actions = v1::actions_server::ActionsServer::new(actions::Service(Arc::clone(context)));
    let link = v1::agent_link_server::AgentLinkServer::new(link::Service(Arc::clone(context)));
    let agents = v1::agents_server::AgentsServer::new(agents::Service(Arc::clone(context)));
    let access = v1::access_server::AccessServer::new(access::Service(Arc::clone(context)));
    let projects = v1::projects_server::ProjectsServer::new(projects::Service(Arc::clone(context)));
    let cluster = v1::cluster_server::ClusterServer::new(cluster::Service(Arc::clone(context)));
    let enrolment = v1::enrolment_server::EnrolmentServer::new(enrolment::Service(Arc::clone(context)));
    let batches = v1::batches_server::BatchesServer::new(batches::Service(Arc::clone(context)));
    let triggers = v1::triggers_server::TriggersServer::new(triggers::Service(Arc::clone(context)));
    health.set_serving::<v1::jobs_server::JobsServer<jobs::Service>>().await;
    health.set_serving::<v1::agent_link_server::AgentLinkServer<link::Service>>().await;
    Ok(Routes::new(jobs.max_decoding_message_size(MESSAGE_LIMIT))
        .add_service(link.max_decoding_message_size(MESSAGE_LIMIT))
        // An action is no larger than a job.
        .add_service(actions.max_decoding_message_size(2 * LARGEST_SPEC))
        .add_service(agents.max_decoding_message_size(SMALL))
        .add_service(cluster.max_decoding_message_size(TINY))
        .add_service(access.max_decoding_message_size(SMALL))
        .add_service(projects.max_decoding_message_size(SMALL))
        .add_service(enrolment.max_decoding_message_size(TINY))
        .add_service(batches.max_decoding_message_size(MESSAGE_LIMIT))
        .add_service(triggers.max_decoding_message_size(MESSAGE_LIMIT))
        .add_service(reflection.max_decoding_message_size(TINY))
        .add_service(health_server.max_decoding_message_size(TINY)))
}

/// A page's size: zero is the default, more than the most is the most.
const fn page_size(asked: u32, default: u32, most: u32) -> u32 {
    match asked {
        0 => default,
        asked if asked > most => most,
        asked => asked,
    }
}

/// Lists that come whole have an end too.
fn at_most(field: &str, count: usize, most: usize) -> Result<(), Status> {
    if count <= most {
        return Ok(());
    }
    Err(status::field(field, format!("has {count} entries; send at most {most} in one call")))
}
