//! Reads, on connections of their own: they never wait for the writer, and see what is committed.

mod actions;
mod batches;
mod bytes;
mod enrolment;
mod fleet;
mod holdings;
mod identity;
mod jobs;
mod run_keys;
mod secrets;
mod triggers;
mod work;

pub(in crate::store) use actions::one as action;
#[cfg(test)]
pub(super) use batches::COUNTS;
pub(crate) use batches::StateCount;
pub(crate) use holdings::Holdings;
#[cfg(test)]
pub(super) use jobs::{EXPIRED, LIST_NAMED, LIST_OF_BATCH, LIST_UNFINISHED};
pub(crate) use jobs::{ListBounds, Place};
