//! What happened to machines, from any revision that is kept, and on with what happens.

use super::{Context, find, status};
use crate::store::AgentEvent;
use futures::{Stream, StreamExt as _, stream};
use longshore_common::{clock::Timestamp, ids::AgentId, wire};
use longshore_proto::v1;
use std::{collections::VecDeque, pin::Pin, sync::Arc};
use tokio::sync::watch;
use tonic::Status;

pub(super) type Events = Pin<Box<dyn Stream<Item = Result<v1::WatchAgentEventsResponse, Status>> + Send>>;

/// Read at a time.
const PAGE: u32 = 500;

pub(super) fn watch(context: &Arc<Context>, request: v1::WatchAgentEventsRequest) -> Result<Events, Status> {
    let agent = match request.agent.as_str() {
        "" => None,
        // One that was removed is known by its id alone.
        name => match name.parse() {
            Ok(id) => Some(id),
            Err(_) => Some(find(context, name)?.identity.id),
        },
    };
    let watcher = Watcher {
        context: Arc::clone(context),
        agent,
        since: request.since.as_ref().map(wire::timestamp_from),
        follow: request.follow,
        revision: request.from_revision,
        changes: context.jobs.nudges().fleet_changes(),
        ready: VecDeque::new(),
    };
    let messages = stream::try_unfold(watcher, |mut watcher| async move {
        let event = watcher.next().await?;
        Ok::<_, Status>(event.map(|event| (message(event), watcher)))
    });
    Ok(messages.boxed())
}

struct Watcher {
    context: Arc<Context>,
    agent: Option<AgentId>,
    since: Option<Timestamp>,
    follow: bool,
    /// Everything up to here was read.
    revision: u64,
    changes: watch::Receiver<u64>,
    ready: VecDeque<AgentEvent>,
}

impl Watcher {
    /// `None`: that was all.
    async fn next(&mut self) -> Result<Option<AgentEvent>, Status> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            self.changes.mark_unchanged();
            let events = self.context.jobs.agent_events(self.revision, self.agent, PAGE).await;
            self.ready = events.map_err(status::jobs)?.into();
            let whole = self.ready.len() < PAGE as usize;
            self.revision = self.ready.back().map_or(self.revision, |event| event.revision);
            self.ready.retain(|event| self.since.is_none_or(|since| event.at >= since));
            if !self.ready.is_empty() || !whole {
                continue;
            }
            if !self.follow {
                return Ok(None);
            }
            tokio::select! {
                changed = self.changes.changed() => changed.map_err(|_| status::leaving())?,
                () = self.context.shutdown.triggered() => return Err(status::leaving()),
            }
        }
    }
}

fn message(event: AgentEvent) -> v1::WatchAgentEventsResponse {
    let event = v1::AgentEvent {
        revision: event.revision,
        at: Some(wire::timestamp_to(event.at)),
        agent: event.name,
        agent_id: event.agent.to_string(),
        kind: v1::AgentEventKind::from(event.kind) as i32,
        detail: event.detail,
        author: event.author,
    };
    v1::WatchAgentEventsResponse { event: Some(event) }
}
