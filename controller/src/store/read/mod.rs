//! Reads, on connections of their own: they never wait for the writer, and see what is committed.

mod actions;
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
pub(crate) use holdings::Holdings;
#[cfg(test)]
pub(super) use jobs::{EXPIRED, LIST_NAMED, LIST_UNFINISHED};
pub(crate) use jobs::{ListBounds, Place};
