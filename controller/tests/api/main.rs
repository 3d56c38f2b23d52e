//! The controller as its clients see it: a whole one in this process, on a free port, driven over the wire.

mod access;
mod actions;
mod agents;
mod bad_input;
mod batches;
mod bytes;
mod ends;
mod faces;
mod fleet;
mod harness;
mod inputs;
mod logs;
mod path;
mod secrets;
mod stale;
mod triggers;
mod watch;
