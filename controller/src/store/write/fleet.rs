//! Orders, pauses and agent events. A few rows a minute.

use super::Tx;
use crate::store::{
    AgentEvent, Error, Standing,
    dialect::{bytes, rows},
    rows::{fleet, to_json},
};
use longshore_common::{fleet::Pause, ids::AgentId};
use std::collections::BTreeSet;

const INSERT_EVENTS: &str = concat!(
    "INSERT INTO agent_events (revision, at, agent_id, agent, kind, detail, author) \
     SELECT CAST(v.value->>'revision' AS BIGINT), CAST(v.value->>'at' AS BIGINT), ",
    bytes!("v.value->>'agent_id'"),
    ", v.value->>'agent', v.value->>'kind', v.value->>'detail', v.value->>'author' FROM ",
    rows!("$1"),
    " AS v",
);

impl Tx {
    /// `None`: nothing is wanted of it any more.
    pub(crate) async fn put_standing(
        &mut self,
        agent: AgentId,
        standing: Option<&Standing>,
    ) -> Result<(), Error> {
        let query = match standing {
            Some(standing) => sqlx::query(
                "INSERT INTO agent_orders (agent_id, standing) VALUES ($1, $2) \
                 ON CONFLICT (agent_id) DO UPDATE SET standing = excluded.standing",
            )
            .bind(&agent.as_bytes()[..])
            .bind(to_json(standing)),
            None => sqlx::query("DELETE FROM agent_orders WHERE agent_id = $1").bind(&agent.as_bytes()[..]),
        };
        query.execute(self.connection()).await?;
        Ok(())
    }

    /// `None`: it goes on.
    pub(crate) async fn put_pause(&mut self, project: &str, pause: Option<&Pause>) -> Result<(), Error> {
        let query = match pause {
            Some(pause) => sqlx::query(
                "INSERT INTO pauses (project, pause) VALUES ($1, $2) \
                 ON CONFLICT (project) DO UPDATE SET pause = excluded.pause",
            )
            .bind(project)
            .bind(to_json(pause)),
            None => sqlx::query("DELETE FROM pauses WHERE project = $1").bind(project),
        };
        query.execute(self.connection()).await?;
        Ok(())
    }

    /// Of each agent that they are about the newest `kept` stay.
    pub(crate) async fn insert_agent_events(&mut self, new: &[AgentEvent], kept: u32) -> Result<(), Error> {
        self.run(INSERT_EVENTS, fleet::pack_events(new)).await?;
        let agents: BTreeSet<_> = new.iter().map(|event| event.agent).collect();
        for agent in agents {
            sqlx::query(
                "DELETE FROM agent_events WHERE agent_id = $1 AND revision <= (SELECT revision FROM agent_events \
                 WHERE agent_id = $1 ORDER BY revision DESC LIMIT 1 OFFSET $2)",
            )
            .bind(&agent.as_bytes()[..])
            .bind(i64::from(kept))
            .execute(self.connection())
            .await?;
        }
        Ok(())
    }
}
