//! What triggers do by themselves: clocks, ends of jobs, new objects, and making jobs of what they noted.

use super::driver::Reconciler;
use crate::{
    jobs::Changes,
    triggers::{Error, Triggers},
};
use async_trait::async_trait;
use longshore_common::clock::Timestamp;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;

/// Notes what clocks make due.
#[derive(Debug)]
pub(super) struct Clocks(pub(super) Triggers);

/// Makes jobs of what was noted.
#[derive(Debug)]
pub(super) struct Firings(pub(super) Triggers);

/// Notes what ends of jobs fire.
#[derive(Debug)]
pub(super) struct Ends {
    triggers: Triggers,
    changes: Receiver<Changes>,
    /// Up to this revision waiting firings were told of ends.
    woken: u64,
}

/// Notes new objects, and forgets old firings.
#[derive(Debug)]
pub(super) struct Objects {
    triggers: Triggers,
    forgot: Option<Timestamp>,
}

const FORGET_EVERY: Duration = Duration::from_secs(600);

impl Ends {
    pub(super) fn new(triggers: Triggers) -> Self {
        let jobs = triggers.jobs();
        Self { changes: jobs.nudges().changes(), woken: jobs.revision(), triggers }
    }
}

impl Objects {
    pub(super) const fn new(triggers: Triggers) -> Self {
        Self { triggers, forgot: None }
    }
}

#[async_trait]
impl Reconciler for Clocks {
    const NAME: &'static str = "trigger-clocks";
    const EVERY: Duration = Duration::from_secs(30);
    type Error = Error;

    async fn sweep(&mut self) -> Result<Option<Timestamp>, Error> {
        self.0.tick(Timestamp::now()).await
    }

    async fn nudged(&mut self) {
        self.0.clocks().await;
    }
}

#[async_trait]
impl Reconciler for Firings {
    const NAME: &'static str = "trigger-firings";
    const EVERY: Duration = Duration::from_secs(30);
    type Error = Error;

    async fn sweep(&mut self) -> Result<Option<Timestamp>, Error> {
        self.0.fire_pending().await
    }

    async fn nudged(&mut self) {
        self.0.noted().await;
    }
}

#[async_trait]
impl Reconciler for Ends {
    const NAME: &'static str = "trigger-ends";
    const EVERY: Duration = Duration::from_secs(30);
    type Error = Error;

    async fn sweep(&mut self) -> Result<Option<Timestamp>, Error> {
        let more = self.triggers.look_at_ends(&mut self.woken).await?;
        Ok(more.then(Timestamp::now))
    }

    async fn nudged(&mut self) {
        use tokio::sync::broadcast::error::RecvError;
        loop {
            match self.changes.recv().await {
                Ok(changes) if changes.iter().all(|change| !change.state.is_terminal()) => {}
                Ok(_) | Err(RecvError::Lagged(_)) => return,
                // `Jobs` holds the sender and we hold `Jobs`.
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}

#[async_trait]
impl Reconciler for Objects {
    const NAME: &'static str = "trigger-objects";
    const EVERY: Duration = Duration::from_secs(15);
    const CUT_OFF: bool = true;
    type Error = Error;

    async fn sweep(&mut self) -> Result<Option<Timestamp>, Error> {
        let now = Timestamp::now();
        if self.forgot.is_none_or(|last| now.since(last) >= FORGET_EVERY) {
            self.triggers.forget().await?;
            self.forgot = Some(now);
        }
        let every = self.triggers.list_every();
        let more = self.triggers.look_at_objects().await?;
        Ok(Some(if more { now } else { Timestamp::now().plus(every) }))
    }

    async fn nudged(&mut self) {
        std::future::pending().await
    }
}
