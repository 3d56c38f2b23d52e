//! Agents that join, go, and come back as others.

use super::*;

/// A grant is known to be lost at once.
pub(super) fn hasty() -> Config {
    Config { grant_patience: Duration::ZERO, ..Config::default() }
}

/// An agent of this bench that says hello, claims and beats.
pub(super) struct Agent<'a> {
    pub(super) bench: &'a Bench,
    pub(super) identity: AgentIdentity,
}

impl<'a> Agent<'a> {
    pub(super) async fn join(bench: &'a Bench, name: &str) -> Self {
        Self { bench, identity: identity(name) }.hello().await
    }

    async fn hello(self) -> Self {
        self.bench.jobs.hello(self.identity.clone(), inventory(16, vec![])).await.expect("stored");
        self
    }

    /// Another process of it.
    pub(super) async fn restarted(&self) -> Self {
        let identity = AgentIdentity { session: SessionId::new(), ..self.identity.clone() };
        Agent { bench: self.bench, identity }.hello().await
    }

    /// The machine was started anew.
    pub(super) async fn rebooted(&self) -> Self {
        let identity = AgentIdentity {
            session: SessionId::new(),
            boot_id: format!("{}'", self.identity.boot_id),
            ..self.identity.clone()
        };
        Agent { bench: self.bench, identity }.hello().await
    }

    pub(super) async fn granted(&self) -> Grant {
        self.bench.claim(self.identity.id, offer(16, 1)).await.grants.pop().expect("a grant")
    }

    pub(super) async fn beats(&self, held: Vec<HeldAttempt>) -> HeartbeatAnswer {
        self.bench.jobs.heartbeat(self.identity.id, held).await.expect("answered")
    }
}

/// So much later on the clock of leases. It runs otherwise: the database is on another thread.
pub(super) async fn later(length: Duration) {
    tokio::time::pause();
    tokio::time::advance(length).await;
    tokio::time::resume();
}

pub(super) fn quick() -> JobSpec {
    let mut spec = spec();
    spec.retry.backoff = Duration::ZERO;
    spec
}

pub(super) async fn bench(config: Config) -> Bench {
    Bench::new().await.reopen(config).await
}

pub(super) async fn outcome(bench: &Bench, grant: &Grant) -> Option<Outcome> {
    bench.jobs.get(grant.attempt.job).await.expect("there").ending.map(|ending| ending.outcome)
}
