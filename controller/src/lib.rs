//! The controller: the only writer of job state. Takes jobs over gRPC, keeps their truth in a database, rings
//! agents through a queue, grants claims, stores logs and artifacts.
//! Must never run a container or trust a clock other than its own.

pub mod actions;
pub mod api;
pub mod blobs;
pub mod broker_users;
pub mod config;
pub mod counters;
pub mod disk;
pub mod enrolment;
mod hints;
pub mod http;
pub mod identity;
pub mod jobs;
pub mod lifecycle;
pub mod links;
pub mod log_store;
pub mod pki;
pub mod placement;
pub mod reconcile;
mod results;
pub mod run_keys;
pub mod secrets;
mod start;
pub mod store;
pub mod triggers;

pub use config::ControllerConfig;
pub use start::{Controller, Running, StartError, renew_admin_token};
