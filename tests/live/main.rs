//! Stories over real servers, one file each. A missing server fails its story, it never skips.

#[macro_use]
mod shared;

mod artifacts;
mod batches;
mod blobs;
mod broker;
mod broker_users;
mod caches;
mod cancel;
mod commands;
mod deadlines;
mod drain;
mod engine;
mod exec;
mod hard;
mod hostile_out;
mod https;
mod inputs;
mod kleinkram;
mod lanes;
mod limits;
mod locality;
mod logins;
mod logs;
mod neighbours;
mod pull;
mod python;
mod queue;
mod refusals;
mod restarts;
mod results;
mod room;
mod run;
mod runtime;
mod samples;
mod secrets;
mod secured;
mod servers;
mod shares;
mod store;
mod store_away;
mod terminal;
mod triggers;
mod trouble;
mod walls;
