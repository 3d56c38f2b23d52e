//! One session of `Jobs.Exec`, as its agent opens it.

use super::{Caller, Context, live, status};
use crate::api::execs::AgentSide;
use futures::{Stream, StreamExt as _, stream};
use longshore_common::{fields::FieldError, ids::ExecId};
use longshore_proto::v1::{self, agent_exec_request::Message};
use std::{pin::Pin, time::Duration};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

pub(super) type Down = Pin<Box<dyn Stream<Item = Result<v1::AgentExecResponse, Status>> + Send>>;

const FIRST: Duration = Duration::from_secs(10);
/// Messages on their way down. An agent that reads slowly holds the caller up.
const WAITING: usize = 16;

pub(super) async fn open(
    context: &Context,
    caller: &Caller,
    mut up: Streaming<v1::AgentExecRequest>,
) -> Result<Down, Status> {
    let first = tokio::time::timeout(FIRST, up.message())
        .await
        .map_err(|_| Status::deadline_exceeded("nothing was opened; the first message must be `open`"))??;
    let Some(v1::AgentExecRequest { message: Some(Message::Open(open)) }) = first else {
        return Err(status::field("message", "the first message must be `open`"));
    };
    let attempt = live(context, caller, open.r#ref)?.attempt;
    let session = ExecId::from_slice(&open.session)
        .map_err(|error| status::invalid(FieldError::new("open.session", error.to_string())))?;
    let wanted = context.execs.take(session, attempt);
    let wanted = wanted.ok_or_else(|| status::not_found("nobody waits for this session any more"))?;
    if !open.refused.is_empty() {
        // Whoever asked may have gone meanwhile.
        drop(wanted.send(Err(open.refused)));
        return Ok(stream::empty().boxed());
    }
    let (down, messages) = mpsc::channel(WAITING);
    wanted
        .send(Ok(AgentSide { up, down }))
        .map_err(|_| status::not_found("nobody waits for this session any more"))?;
    Ok(ReceiverStream::new(messages).boxed())
}
