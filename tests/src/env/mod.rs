//! Real servers for the live tests: private ones, on free ports, ended with the test process whatever ends it.
//! Never uses or disturbs a server that was already there, except the Docker Engine the machine offers. A server
//! whose program is missing fails the test, with the line to type.

mod base;
mod broker;
mod cli;
mod client;
mod cluster;
mod docker;
mod guard;
mod images;
mod proxy;
mod registry;
mod s3;
mod server;
mod wait;

pub use base::{base, fresh_dir, run_id};
pub use broker::{Broker, broker};
pub use cli::{Cli, Finished, binary};
pub use client::{Client, outcome, seconds, shell, words};
pub use cluster::{Cluster, Plan, agent_name, embedded, on_servers};
pub use docker::{Engine, docker, docker_output};
pub use images::{image, image_with};
pub use proxy::Proxy;
pub use registry::{Registry, registry};
pub use s3::{S3, s3};
pub use server::{Server, free_port, program};
pub use wait::{PATIENCE, until, until_within};
