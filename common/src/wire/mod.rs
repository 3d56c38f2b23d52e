//! The only translation between the wire's messages and Longshore's words. Every function is total: whatever a peer
//! sends becomes a value or an error that names the field. Decides nothing and never does I/O.
//!
//! `From` makes messages, `TryFrom` reads them. What is no message of its own (times, enum numbers, maps of lanes)
//! has functions.

mod action;
mod agent;
mod artifact;
mod attempt;
mod credentials;
mod enums;
mod exec;
mod fleet;
mod kleinkram;
mod logs;
mod machine;
mod outcome;
mod sizing;
mod spec;
pub mod status;
mod time;
mod trigger;

pub use crate::fields::FieldError as WireError;
pub use action::{said_of, submitted_action, submitted_run};
pub use agent::{Greeting, hello, hints_from, hints_to, lane_answers_from, lane_answers_to, lanes_from};
pub use artifact::digest;
pub use attempt::{stop_from, stop_to};
pub use credentials::{Credentials, PROJECT, Unsendable};
pub use enums::{
    access, agent_state, blame, job_state, lane_answer, network_mode, pull_policy, role, security, stream,
    streams,
};
pub use exec::{exec_asked, exec_order, exec_order_from};
pub use fleet::{HANDS_BACK, PROTOCOLS, common_protocol};
pub use machine::overlay_resources;
pub use outcome::outcome;
pub use spec::{overlay_deadlines, submitted_spec};
pub use time::{duration_from, duration_to, timestamp_from, timestamp_to};
pub use trigger::submitted_trigger;

/// A message field without which the rest means nothing.
pub fn required<T>(path: &str, value: Option<T>) -> Result<T, WireError> {
    value.ok_or_else(|| WireError::new(path, "is missing"))
}

/// An id of 16 bytes.
fn id<T>(path: &str, parsed: Result<T, crate::ids::ParseIdError>) -> Result<T, WireError> {
    parsed.map_err(|error| WireError::new(path, error.to_string()))
}

/// Proto3 has no absent text: empty means absent.
fn text(value: String) -> Option<String> {
    if value.is_empty() { None } else { Some(value) }
}
