//! Ends containers by signals. A container that SIGKILL does not end is stuck in the kernel, or the engine is; that is
//! said after a while and left to others. Never removes anything.

use super::{
    Docker,
    engine::{message, status},
    monitor,
};
use crate::runtime::{ContainerId, Error};
use bollard::query_parameters::KillContainerOptions;
use longshore_common::retry::Backoff;
use std::time::Duration;
use tokio::time::timeout;

/// How long is waited for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For the call. Engines of 20.10 answer a SIGKILL when the container has ended.
    call: Duration,
    /// Then SIGKILL is sent again.
    again: Duration,
    /// From the first SIGKILL; while the engine is away it does not count.
    stuck: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            call: Duration::from_secs(10),
            again: Duration::from_secs(10),
            // A process that writes out its memory to a slow disk ends within this.
            stuck: Duration::from_secs(60),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Yes,
    /// It does not run any more.
    NotRunning,
    /// The call is not answered.
    Hangs,
}

impl Docker {
    pub(super) async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<(), Error> {
        let live = self.containers.get(id);
        if self.signal(id, "SIGTERM").await? == Sent::NotRunning {
            return Ok(());
        }
        monitor::begin(&self.engine, id, &live);
        if timeout(grace, live.end()).await.is_ok() {
            return Ok(());
        }
        let Patience { call, again, stuck } = self.patience;
        let mut spent = Duration::ZERO;
        while spent < stuck {
            match self.signal(id, "SIGKILL").await? {
                Sent::NotRunning => return Ok(()),
                Sent::Hangs => spent += call,
                Sent::Yes => {}
            }
            if timeout(again, live.end()).await.is_ok() {
                return Ok(());
            }
            spent += again;
            tracing::warn!(container = %id.0, "container does not end after SIGKILL");
        }
        let seconds = stuck.as_secs();
        Err(Error::Stuck(format!("the container does not end: SIGKILL did nothing for {seconds} s")))
    }

    /// Waits for an engine that is away.
    async fn signal(&self, id: &ContainerId, signal: &str) -> Result<Sent, Error> {
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));
        loop {
            let options = KillContainerOptions { signal: signal.to_owned() };
            let Ok(client) = self.engine.client().await else {
                backoff.wait().await;
                continue;
            };
            match timeout(self.patience.call, client.api.kill_container(&id.0, Some(options))).await {
                Err(_) => return Ok(Sent::Hangs),
                Ok(Ok(())) => return Ok(Sent::Yes),
                Ok(Err(error)) if matches!(status(&error), Some(404 | 409)) => return Ok(Sent::NotRunning),
                // Engines of 20.10 say so with 500 when it ends in that instant.
                Ok(Err(error)) if message(&error).contains("is not running") => return Ok(Sent::NotRunning),
                Ok(Err(error)) => match self.engine.failed("signal the container", &error) {
                    Error::Unreachable(_) => backoff.wait().await,
                    other => return Err(other),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{
        Config,
        docker::play::{NEVER, Process},
    };
    use longshore_common::ids::AgentId;

    /// How a stop ends on an engine that answers kills so, and says that the container runs.
    async fn stopped(kill: (u16, &'static str)) -> Result<(), Error> {
        let home = tempfile::tempdir().expect("a folder");
        let process = Process::start(&home.path().join("engine.sock"), move |_, path| {
            Some(match path.rsplit('/').next().unwrap_or_default() {
                "kill" => (kill.0, kill.1.to_owned()),
                "wait" => (NEVER, String::new()),
                "info" => (200, "{}".to_owned()),
                _ => (200, r#"{"State":{"Running":true,"Status":"running"}}"#.to_owned()),
            })
        });
        let host = Some(format!("unix://{}/engine.sock", home.path().display()));
        let mut docker = Docker::new(Config { host, ..Config::default() }, AgentId::new());
        let wait = Duration::from_millis(50);
        docker.patience = Patience { call: wait, again: wait, stuck: 6 * wait };
        let stopped = docker.stop_container(&ContainerId("c1".to_owned()), Duration::ZERO).await;
        process.end().await;
        stopped
    }

    #[tokio::test]
    async fn a_container_that_survives_sigkill_is_stuck_whether_the_kill_is_answered_or_not() {
        for kill in [(204, ""), (NEVER, "")] {
            let stuck = stopped(kill).await.expect_err("it runs on");
            assert!(matches!(&stuck, Error::Stuck(detail) if detail.contains("SIGKILL")), "{stuck:?}");
        }
        stopped((409, r#"{"message":"is not running"}"#)).await.expect("it had ended");
    }
}
