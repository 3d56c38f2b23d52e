//! Sessions that people asked for and agents have not opened yet. In memory alone: a controller that restarts ends
//! them. Knows no policy.

use longshore_common::ids::{AttemptRef, ExecId};
use longshore_proto::v1;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{mpsc, oneshot};
use tonic::{Status, Streaming};

/// Clones are the same set.
#[derive(Clone, Debug, Default)]
pub struct Execs(Arc<Mutex<HashMap<ExecId, Wanted>>>);

#[derive(Debug)]
struct Wanted {
    attempt: AttemptRef,
    opened: oneshot::Sender<Opened>,
}

/// What an agent answers.
pub(crate) type Opened = Result<AgentSide, String>;

/// A session's way to its process.
#[derive(Debug)]
pub(crate) struct AgentSide {
    pub(crate) up: Streaming<v1::AgentExecRequest>,
    pub(crate) down: mpsc::Sender<Result<v1::AgentExecResponse, Status>>,
}

/// One that is waited for, as long as this lives.
#[derive(Debug)]
pub(crate) struct Waiting {
    execs: Execs,
    pub(crate) session: ExecId,
    pub(crate) opened: oneshot::Receiver<Opened>,
}

impl Execs {
    pub(crate) fn want(&self, attempt: AttemptRef) -> Waiting {
        let session = ExecId::new();
        let (sender, opened) = oneshot::channel();
        self.lock().insert(session, Wanted { attempt, opened: sender });
        Waiting { execs: self.clone(), session, opened }
    }

    /// Where the answer of an agent goes; `None`: nobody waits for it any more, or it is another attempt's.
    pub(crate) fn take(&self, session: ExecId, attempt: AttemptRef) -> Option<oneshot::Sender<Opened>> {
        let mut all = self.lock();
        all.get(&session).filter(|wanted| wanted.attempt == attempt)?;
        all.remove(&session).map(|wanted| wanted.opened)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ExecId, Wanted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.execs.lock().remove(&self.session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::ids::{Epoch, JobId};

    #[test]
    fn a_session_is_opened_once_by_its_own_attempt_and_only_while_somebody_waits() {
        let execs = Execs::default();
        let attempt = |number| AttemptRef { job: JobId::new(), number, epoch: Epoch(1) };
        let (own, other) = (attempt(1), attempt(2));
        let waiting = execs.want(own);
        assert!(execs.take(waiting.session, other).is_none());
        assert!(execs.take(waiting.session, own).is_some());
        assert!(execs.take(waiting.session, own).is_none());
        let given_up = execs.want(own);
        let session = given_up.session;
        drop(given_up);
        assert!(execs.take(session, own).is_none());
    }
}
