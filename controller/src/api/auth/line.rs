//! One call's line in the audit log, from its begin to its answer.

use super::{Context, answer::Refused, rules::Rule};
use crate::{identity::Caller, store::AuditRow};
use longshore_common::clock::Timestamp;
use std::net::SocketAddr;

pub(super) struct Line {
    id: [u8; 16],
    rule: &'static Rule,
    caller: Caller,
    from: SocketAddr,
}

impl Line {
    pub(super) fn new(rule: &'static Rule, caller: &Caller, from: SocketAddr) -> Self {
        Self { id: *uuid::Uuid::now_v7().as_bytes(), rule, caller: caller.clone(), from }
    }

    /// From now on there will be a line, even if this process ends before [`Self::close`].
    pub(super) async fn open(&self, context: &Context) -> Result<(), Refused> {
        context.jobs.open_call(self.row(None)).await.map_err(|error| Refused::unwritten(&error))
    }

    /// Written before the answer goes out.
    pub(super) async fn close(&self, context: &Context, refused: Option<&Refused>) {
        if let Err(error) = context.jobs.audit(self.row(refused)).await {
            let (action, actor) = (self.rule.path, self.caller.who());
            tracing::error!(%error, action, %actor, "a line of the audit log is not written");
        }
    }

    fn row(&self, refused: Option<&Refused>) -> AuditRow {
        let note = self.caller.note();
        let (result, message) = match (refused, note.denied) {
            (Some(refused), _) => (refused.code_name(), refused.message().to_owned()),
            (None, Some(denied)) => ("PERMISSION_DENIED", denied),
            (None, None) => ("ok", String::new()),
        };
        AuditRow {
            id: self.id,
            at: Timestamp::now(),
            actor: self.caller.who().to_string(),
            address: self.from.ip().to_string(),
            action: self.rule.path.trim_start_matches('/').to_owned(),
            project: note.project,
            targets: note.targets,
            target_count: note.count,
            result: result.to_owned(),
            message,
        }
    }
}
