//! What an image is promised and how its result is read, one small module per contract. Never talks to the engine.

pub mod kleinkram;
pub mod plain;

use crate::secrets::{Secrets, Value};
use longshore_common::{
    agent::Grant,
    job::{JobSpec, KLEINKRAM},
};
use std::collections::BTreeMap;

/// The container's environment; `agent` is the weakest layer.
pub fn env(grant: &Grant, agent: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut env = plain::env(grant, agent);
    if grant.spec.contract == KLEINKRAM {
        env.extend(kleinkram::env(grant));
    }
    env
}

/// What of it nobody else may know, or what is wrong with that.
pub fn secret_env(spec: &JobSpec, secrets: &Secrets) -> Result<BTreeMap<String, Value>, String> {
    if spec.contract == KLEINKRAM { kleinkram::secret_env(spec, secrets) } else { Ok(BTreeMap::new()) }
}
