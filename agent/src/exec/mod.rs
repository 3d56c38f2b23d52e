//! Processes that people start in running containers: one session after its order, fenced by the attempt's token,
//! bounded in number and time. Its bytes are the caller's alone and never go into the job's log; a line that says so
//! does. Never decides who may: the controller's policy does, and this machine's word against it.

mod session;
#[cfg(test)]
mod tests;

use crate::{
    attempt::{Attempts, Held, Open},
    link::{Controller, ExecLine},
    runtime::Runtime,
};
use futures::StreamExt as _;
use longshore_common::{
    exec::{End, Told},
    ids::{AttemptRef, ExecId},
};
use serde::{Deserialize, Serialize};
use session::{Bounds, Session};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::timeout;

/// For a controller to take a session's end.
const FAREWELL: Duration = Duration::from_secs(10);

/// Whether this machine lets people into containers, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `false`: nobody starts anything here, whatever a project allows.
    pub allow: bool,
    /// Sessions at once in one job, and on this machine.
    pub per_job: usize,
    pub at_once: usize,
    /// A session in which nothing moves for so long ends.
    pub idle_seconds: u64,
    /// One that goes on for so long ends.
    pub longest_seconds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // The project's policy decides; this word is for machines where nobody shall.
            allow: true,
            // A shell, a monitor and what was forgotten.
            per_job: 4,
            at_once: 32,
            // Over lunch, not over night.
            idle_seconds: 3600,
            longest_seconds: 12 * 3600,
        }
    }
}

/// One per agent; clones are handles.
#[derive(Clone, Debug)]
pub struct Execs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    held: Held,
    runtime: Arc<dyn Runtime>,
    controller: Arc<dyn Controller>,
    sessions: Mutex<HashMap<AttemptRef, usize>>,
}

/// A session that counts, until it is dropped.
#[derive(Debug)]
struct Seat {
    inner: Arc<Inner>,
    attempt: AttemptRef,
}

impl Execs {
    pub(crate) fn new(config: Config, attempts: &Attempts) -> Self {
        let tools = attempts.tools();
        Self(Arc::new(Inner {
            config,
            held: tools.held.clone(),
            runtime: Arc::clone(&tools.runtime),
            controller: Arc::clone(&tools.controller),
            sessions: Mutex::default(),
        }))
    }

    /// One session from its order to its end.
    pub(crate) async fn serve(self, session: ExecId, attempt: AttemptRef) {
        let admitted = self.admit(attempt);
        let refused = admitted.as_ref().err().cloned();
        let line = match self.0.controller.exec(attempt, session, refused).await {
            Ok(line) => line,
            Err(error) => {
                tracing::info!(attempt.id = %attempt, %error, "an exec session was not opened");
                return;
            }
        };
        let Ok((_seat, open)) = admitted else { return };
        let ExecLine { up, mut down } = line;
        let Config { idle_seconds, longest_seconds, .. } = self.0.config;
        let bounds =
            Bounds { idle: Duration::from_secs(idle_seconds), longest: Duration::from_secs(longest_seconds) };
        let session = Session { runtime: &*self.0.runtime, open, up: up.clone(), bounds };
        let end = Box::pin(session.run(&mut down)).await;
        tracing::info!(attempt.id = %attempt, code = end.code, reason = end.reason, "an exec session has ended");
        // The controller closes the call when it has the end; given up sooner, the call would take its last words along.
        let told = async {
            drop(up.send(Told::End(end)).await);
            drop(up);
            while let Some(Ok(_)) = down.next().await {}
        };
        drop(timeout(FAREWELL, told).await);
    }

    fn admit(&self, attempt: AttemptRef) -> Result<(Seat, Open), String> {
        let Config { allow, per_job, at_once, .. } = self.0.config;
        if !allow {
            return Err(
                "this machine lets nobody into its containers (exec.allow in its agent.toml)".to_owned()
            );
        }
        let open = self.0.held.open(&attempt)?;
        let mut sessions = self.0.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.values().sum::<usize>() >= at_once {
            return Err(format!(
                "{at_once} sessions are open on this machine already (exec.at_once); end one"
            ));
        }
        let own = sessions.entry(attempt).or_default();
        if *own >= per_job {
            return Err(format!("{per_job} sessions are open in this job already (exec.per_job); end one"));
        }
        *own += 1;
        Ok((Seat { inner: Arc::clone(&self.0), attempt }, open))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut sessions = self.inner.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = sessions.get_mut(&self.attempt) {
            *count -= 1;
            if *count == 0 {
                sessions.remove(&self.attempt);
            }
        }
    }
}

impl From<crate::runtime::Error> for End {
    fn from(error: crate::runtime::Error) -> Self {
        Self::otherwise(error.to_string())
    }
}
