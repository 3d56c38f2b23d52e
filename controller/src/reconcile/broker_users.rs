//! Keeps the broker users of agents as they should be: those of removed agents go, changed ones are mended.

use super::driver::Reconciler;
use crate::broker_users::{BrokerUsers, Error};
use async_trait::async_trait;
use longshore_common::clock::Timestamp;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Users(BrokerUsers);

impl Users {
    pub(super) fn new(users: BrokerUsers) -> Self {
        Self(users)
    }
}

#[async_trait]
impl Reconciler for Users {
    const NAME: &'static str = "broker-users";
    // Two lists of a broker; nothing of a job waits for it.
    const EVERY: Duration = Duration::from_secs(60);
    type Error = Error;

    async fn sweep(&mut self) -> Result<Option<Timestamp>, Error> {
        self.0.sweep().await.map(|()| None)
    }

    async fn nudged(&mut self) {
        self.0.nudged().await;
    }
}
