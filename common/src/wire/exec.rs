//! Processes that somebody starts in a container.

use super::{WireError, id, required, text};
use crate::{
    exec::{Asked, End, Size, Start, Told},
    ids::{AttemptRef, ExecId},
};
use longshore_proto::v1::{self, exec_request, exec_response};

impl From<v1::ExecStart> for Start {
    fn from(message: v1::ExecStart) -> Self {
        Self {
            command: message.command,
            env: message.env.into_iter().collect(),
            workdir: text(message.workdir),
            user: text(message.user),
            stdin: message.stdin,
            tty: message.tty,
            size: message.size.map(Into::into),
            by: message.by,
        }
    }
}

impl From<v1::WindowSize> for Size {
    fn from(message: v1::WindowSize) -> Self {
        let small = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
        Self { columns: small(message.columns), rows: small(message.rows) }
    }
}

impl From<Size> for v1::WindowSize {
    fn from(size: Size) -> Self {
        Self { columns: size.columns.into(), rows: size.rows.into() }
    }
}

/// What the controller passes on to the agent.
pub fn exec_asked(message: v1::AgentExecResponse) -> Result<Asked, WireError> {
    if message.hang_up {
        return Ok(Asked::HangUp);
    }
    let asked = required("asked", message.asked)?;
    Ok(match required("asked.message", asked.message)? {
        exec_request::Message::Start(start) => Asked::Start(start.into()),
        exec_request::Message::Stdin(data) => Asked::Stdin(data),
        exec_request::Message::StdinEnd(_) => Asked::StdinEnd,
        exec_request::Message::Resize(size) => Asked::Resize(size.into()),
    })
}

impl From<Told> for v1::ExecResponse {
    fn from(told: Told) -> Self {
        let message = match told {
            Told::Started => exec_response::Message::Started(v1::ExecStarted {}),
            Told::Stdout(data) => exec_response::Message::Stdout(data),
            Told::Stderr(data) => exec_response::Message::Stderr(data),
            Told::End(End { code, reason }) => {
                exec_response::Message::End(v1::ExecEnd { exit_code: code, reason })
            }
        };
        Self { message: Some(message) }
    }
}

pub fn exec_order(session: ExecId, attempt: AttemptRef) -> v1::ExecOrder {
    v1::ExecOrder { session: session.as_bytes().to_vec().into(), r#ref: Some(attempt.into()) }
}

pub fn exec_order_from(message: &v1::ExecOrder) -> Result<(ExecId, AttemptRef), WireError> {
    let session = id("exec.session", ExecId::from_slice(&message.session))?;
    Ok((session, AttemptRef::try_from(message.r#ref.clone())?))
}
