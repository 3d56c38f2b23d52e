//! The rows of `agent_orders`, `pauses` and `agent_events`.

use super::{jobs::agent_id, parse, signed, unsigned};
use crate::store::Error;
use longshore_common::{
    clock::Timestamp,
    fleet::{AgentEventKind, Orders},
    ids::AgentId,
};
use serde::{Deserialize, Serialize};
use sqlx::{Row as _, sqlite::SqliteRow};
use std::collections::BTreeMap;

/// What operators want of one machine. Stored as JSON: absent fields are the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Standing {
    pub(crate) orders: Orders,
    /// Over those of the agent's own settings; `None`: taken away.
    pub(crate) labels: BTreeMap<String, Option<String>>,
}

/// Something that happened to a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentEvent {
    /// Counts up.
    pub revision: u64,
    pub at: Timestamp,
    pub agent: AgentId,
    /// Its name then.
    pub name: String,
    pub kind: AgentEventKind,
    pub detail: String,
    /// Empty: nobody's doing.
    pub author: String,
}

impl AgentEvent {
    pub(in crate::store) fn read(row: &SqliteRow) -> Result<Self, Error> {
        Ok(Self {
            revision: unsigned(row.try_get("revision")?),
            at: Timestamp::from_micros(row.try_get("at")?),
            agent: agent_id(row.try_get("agent_id")?)?,
            name: row.try_get("agent")?,
            kind: parse("a kind of agent event", row.try_get("kind")?)?,
            detail: row.try_get("detail")?,
            author: row.try_get("author")?,
        })
    }
}

#[derive(Serialize)]
struct Packed<'a> {
    revision: i64,
    at: i64,
    agent_id: String,
    agent: &'a str,
    kind: &'static str,
    detail: &'a str,
    author: &'a str,
}

pub(in crate::store) fn pack_events(events: &[AgentEvent]) -> String {
    super::pack_list(events.iter().map(|event| Packed {
        revision: signed(event.revision),
        at: event.at.as_micros(),
        agent_id: hex::encode(event.agent.as_bytes()),
        agent: &event.name,
        kind: event.kind.as_str(),
        detail: &event.detail,
        author: &event.author,
    }))
}
