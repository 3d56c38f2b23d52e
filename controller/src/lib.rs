//! The controller: the only writer of job state. Takes jobs over gRPC, keeps their truth in a database, rings
//! agents through a queue, grants claims, stores logs and artifacts.
//! Must never run a container or trust a clock other than its own.

pub mod blobs;
pub mod http;
pub mod jobs;
pub mod lifecycle;
pub mod log_store;
pub mod store;
