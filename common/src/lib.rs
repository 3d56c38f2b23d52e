//! The words of Longshore that controller, agent and CLI share. Owns the domain types, the queue seam, the
//! conversion to the wire, configuration layers and the few async habits (tasks, shutdown, retry).
//! Must never know a database, Docker or NVML.

pub mod access;
pub mod action;
pub mod agent;
pub mod artifact;
pub mod clock;
pub mod config;
pub mod credential;
pub mod durable;
pub mod exec;
pub mod fields;
pub mod fleet;
pub mod ids;
pub mod job;
pub mod logs;
mod nearest;
pub mod process;
pub mod queue;
pub mod retry;
pub mod shutdown;
pub mod tasks;
pub mod telemetry;
pub mod tree;
pub mod trigger;
pub mod units;
pub mod wire;

pub use nearest::{did_you_mean, nearest};
