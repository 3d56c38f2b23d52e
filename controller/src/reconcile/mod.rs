//! Loops that bring what is to what should be. Each takes no input, may be run at any time and any number of times,
//! and looks by itself: a nudge only makes it look sooner.

mod agents;
mod broker_users;
mod driver;
mod expire;
mod fleet;
mod publish;
mod retention;
mod run_keys;
#[cfg(test)]
mod tests;
mod triggers;

pub use publish::Lag;

use crate::{
    blobs::Blobs, broker_users::BrokerUsers, jobs::Jobs, log_store::LogStore, run_keys::RunKeys,
    triggers::Triggers,
};
use driver::drive;
use longshore_common::{queue::Publisher, shutdown::Shutdown, tasks};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use tokio::task::JoinHandle;

/// Settings of the loops.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Hints kept in a lane at most.
    pub window: u32,
    /// How often the queue's own count of hints is taken.
    pub recount_every: Duration,
    /// How much longer than a lease the controller waits before it gives an attempt to others.
    pub lease_grace: Duration,
    /// How often expired jobs are looked for.
    pub retention_every: Duration,
    /// How long a line of the audit log is kept.
    pub audit_retention: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // More than a rack of agents can pick up between two commits, and few enough to stay a doorbell.
            window: 64,
            // What a broker lost comes again within this.
            recount_every: Duration::from_secs(30),
            // The agent counts from before it sent the renewal, the controller from its receipt.
            lease_grace: Duration::from_secs(30),
            // Retention is measured in days.
            retention_every: Duration::from_secs(600),
            // What an auditor asks about is within the year.
            audit_retention: Duration::from_secs(365 * 24 * 3600),
        }
    }
}

/// The running loops.
#[derive(Debug)]
pub struct Reconcilers {
    lag: Lag,
    loops: Vec<JoinHandle<()>>,
}

impl Reconcilers {
    pub fn start(
        config: &Config,
        jobs: &Jobs,
        publisher: Arc<dyn Publisher>,
        (blobs, logs): (Arc<dyn Blobs>, Arc<dyn LogStore>),
        shutdown: &Shutdown,
    ) -> Self {
        let lag = Lag::default();
        let publish = publish::Publish::new(config, jobs.clone(), publisher, lag.clone());
        let backoffs = expire::Backoffs::new(jobs.clone());
        let deadlines = expire::Deadlines::new(jobs.clone());
        let leases = agents::Leases::new(jobs.clone(), config.lease_grace);
        let fleet = fleet::Fleet::new(jobs.clone());
        let retention = retention::Retention::new(jobs.clone(), config, blobs, logs);
        let loops = vec![
            tasks::spawn("publish", publish.run(shutdown.clone())),
            tasks::spawn("backoffs", drive(backoffs, shutdown.clone())),
            tasks::spawn("queue-deadlines", drive(deadlines, shutdown.clone())),
            tasks::spawn("leases", drive(leases, shutdown.clone())),
            tasks::spawn("fleet", drive(fleet, shutdown.clone())),
            tasks::spawn("retention", drive(retention, shutdown.clone())),
        ];
        Self { lag, loops }
    }

    /// With the loop that keeps agents' broker users as they should be.
    pub fn with_broker_users(mut self, users: BrokerUsers, shutdown: &Shutdown) -> Self {
        let users = broker_users::Users::new(users);
        self.loops.push(tasks::spawn("broker-users", drive(users, shutdown.clone())));
        self
    }

    /// With what triggers do by themselves.
    pub fn with_triggers(mut self, all: &Triggers, shutdown: &Shutdown) -> Self {
        self.loops.extend([
            tasks::spawn("trigger-clocks", drive(triggers::Clocks(all.clone()), shutdown.clone())),
            tasks::spawn("trigger-ends", drive(triggers::Ends::new(all.clone()), shutdown.clone())),
            tasks::spawn("trigger-objects", drive(triggers::Objects::new(all.clone()), shutdown.clone())),
            tasks::spawn("trigger-firings", drive(triggers::Firings(all.clone()), shutdown.clone())),
        ]);
        self
    }

    /// With the loop that takes back run keys.
    pub fn with_run_keys(mut self, keys: RunKeys, jobs: &Jobs, shutdown: &Shutdown) -> Self {
        let keys = run_keys::Keys::new(keys, jobs);
        self.loops.push(tasks::spawn("run-keys", drive(keys, shutdown.clone())));
        self
    }

    /// For how long queued work has been without a hint, for `status`.
    pub fn lag(&self) -> Lag {
        self.lag.clone()
    }

    /// Returns when every loop has ended.
    pub async fn join(self) {
        for done in self.loops {
            if done.await.is_err() {
                tracing::error!("a reconciler ended by a panic");
            }
        }
    }
}
