//! The embedded queue: the controller rings agents over their links. `Hub` is the controller's half, `LinkConsumer`
//! the agent's; what goes between them is `Turn` up and `Work` down. Keeps nothing on disk: after a restart the
//! publish loop rings again. Never knows the wire.
//!
//! Controller: one [`Hub`] as the `Publisher`; per link [`Hub::connect`], then send what [`Line::next`] gives and
//! pass every `Listen` to [`Line::turn`]; dropping the `Line` gives its hints back.
//! Agent: one [`LinkConsumer`]; per link `connected`, send what `next_turn` gives, pass every `Work` to `work`,
//! and `disconnected` at its end.

mod consumer;
mod hub;

pub use consumer::LinkConsumer;
pub use hub::{Hub, Line};

use super::Lane;
use std::collections::BTreeMap;

/// "There is work in this lane", down the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    pub lane: Lane,
    pub hints: u32,
}

/// What an agent wants to be rung for from now on, and what became of hints it was given. One message, so that a
/// lane is left before its last hint is acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// All of them.
    pub lanes: Vec<Lane>,
    /// Used up by a claim.
    pub acked: BTreeMap<Lane, u32>,
    /// Given back unused.
    pub returned: BTreeMap<Lane, u32>,
}

#[cfg(test)]
mod tests;
