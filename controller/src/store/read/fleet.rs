//! Orders, pauses and agent events.

use crate::store::{
    AgentEvent, Error, Standing, Store,
    rows::{from_json, jobs::agent_id, signed, unsigned},
};
use longshore_common::{fleet::Pause, ids::AgentId};
use sqlx::Row as _;
use std::collections::BTreeMap;

impl Store {
    pub(crate) async fn standings(&self) -> Result<BTreeMap<AgentId, Standing>, Error> {
        let rows = sqlx::query("SELECT agent_id, standing FROM agent_orders").fetch_all(&self.read).await?;
        rows.iter()
            .map(|row| {
                Ok((agent_id(row.try_get("agent_id")?)?, from_json("orders", row.try_get("standing")?)?))
            })
            .collect()
    }

    /// By project; the empty one is all.
    pub(crate) async fn pauses(&self) -> Result<BTreeMap<String, Pause>, Error> {
        let rows = sqlx::query("SELECT project, pause FROM pauses").fetch_all(&self.read).await?;
        rows.iter()
            .map(|row| Ok((row.try_get("project")?, from_json("a pause", row.try_get("pause")?)?)))
            .collect()
    }

    /// Of the newest event; 0: there is none.
    pub(crate) async fn last_agent_event(&self) -> Result<u64, Error> {
        let row = sqlx::query("SELECT MAX(revision) FROM agent_events").fetch_one(&self.read).await?;
        Ok(row.try_get::<Option<i64>, _>(0)?.map_or(0, unsigned))
    }

    /// Those after a revision, in order; of one agent, if one is named.
    pub(crate) async fn agent_events(
        &self,
        after: u64,
        agent: Option<AgentId>,
        limit: u32,
    ) -> Result<Vec<AgentEvent>, Error> {
        let agent = agent.map(|agent| agent.as_bytes().to_vec());
        let rows = sqlx::query(
            "SELECT * FROM agent_events WHERE revision > $1 AND ($2 IS NULL OR agent_id = $2) \
             ORDER BY revision LIMIT $3",
        )
        .bind(signed(after))
        .bind(agent)
        .bind(i64::from(limit))
        .fetch_all(&self.read)
        .await?;
        rows.iter().map(AgentEvent::read).collect()
    }

    /// What was told of GPUs' health and of notes, in order.
    pub(crate) async fn told_of_agents(&self) -> Result<Vec<AgentEvent>, Error> {
        let rows = sqlx::query(
            "SELECT * FROM agent_events WHERE kind IN ('gpu_sick', 'gpu_well', 'note') ORDER BY revision",
        )
        .fetch_all(&self.read)
        .await?;
        rows.iter().map(AgentEvent::read).collect()
    }

    /// The last of each agent's events that say whether it is linked.
    pub(crate) async fn last_links(&self) -> Result<Vec<AgentEvent>, Error> {
        let rows = sqlx::query(
            "SELECT e.* FROM agent_events AS e JOIN (SELECT agent_id, MAX(revision) AS last FROM agent_events \
             WHERE kind IN ('joined', 'connected', 'disconnected', 'lost', 'back') GROUP BY agent_id) AS m \
             ON e.revision = m.last",
        )
        .fetch_all(&self.read)
        .await?;
        rows.iter().map(AgentEvent::read).collect()
    }
}
