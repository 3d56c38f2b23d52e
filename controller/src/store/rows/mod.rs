//! Rows as Rust sees them, and the one way each value is stored and read back.

pub(super) mod actions;
pub(super) mod attempts;
pub(super) mod batches;
pub(super) mod enrolment;
pub(super) mod fleet;
pub(super) mod identity;
pub(super) mod jobs;
pub(super) mod others;
pub(super) mod run_keys;
pub(super) mod secrets;
pub(super) mod triggers;

pub(crate) use actions::ActionRequestRow;
pub(crate) use attempts::{AttemptClose, AttemptRow, AttemptUpdate, GrantedGpu};
pub(crate) use batches::{BatchRequestRow, BatchRow};
pub(crate) use enrolment::{CredentialRow, JoinTokenRow};
pub use fleet::AgentEvent;
pub(crate) use fleet::Standing;
pub(crate) use identity::{AuditRow, TokenRow};
pub(crate) use jobs::{JobRow, NewJobRow, ViewRow};
pub(crate) use others::{AgentRow, RequestRow};
pub(crate) use run_keys::RunKeyRow;
pub use secrets::SecretKind;
pub(crate) use secrets::{DataKeyRow, SecretRow};
pub(crate) use triggers::{FiringRow, FiringState, PutTrigger, Record, SeenObject, TriggerRow};

use super::Error;
use longshore_common::clock::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt::Display, str::FromStr};

/// Sizes and counts beyond what the engine's integers hold are nobody's real numbers: they are cut.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(super) fn small(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

pub(super) fn time(micros: Option<i64>) -> Option<Timestamp> {
    micros.map(Timestamp::from_micros)
}

pub(super) fn micros(time: Option<Timestamp>) -> Option<i64> {
    time.map(Timestamp::as_micros)
}

pub(super) fn parse<T>(what: &'static str, text: &str) -> Result<T, Error>
where
    T: FromStr,
    T::Err: Display,
{
    text.parse().map_err(|error: T::Err| Error::corrupt(what, error))
}

pub(super) fn from_json<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| Error::corrupt(what, error))
}

pub(super) fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain data with text keys")
}

/// A list as one bind.
pub(crate) fn pack_list<T: Serialize>(items: impl IntoIterator<Item = T>) -> String {
    to_json(&items.into_iter().collect::<Vec<_>>())
}
