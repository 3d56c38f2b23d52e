//! Calls that change containers: few at a time, and each of them watched. An engine asked for everything at once can lock
//! itself up (seen with 20.10: 230 containers starting and ending on one bridge), and answers pings for ever after.
//! A call goes on when nobody waits for it any more. Must never know what becomes of its answer.

use super::{engine::Client, tether::Tether};
use crate::runtime::Error;
use longshore_common::{job::Outcome, tasks};
use std::{fmt, future::Future, num::NonZeroU32, sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinHandle,
    time::{Instant, timeout},
};

/// Far longer than a loaded engine takes for one container.
pub(super) const ANSWER: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Create,
    Start,
    Remove,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Start => "start",
            Self::Remove => "remove",
        })
    }
}

/// The way to the engine for calls that change something.
#[derive(Debug)]
pub(super) struct Calls {
    gate: Arc<Semaphore>,
    patience: Duration,
    health: Arc<watch::Sender<Health>>,
}

/// Per kind: what was begun last of those that were answered, and of those that were not in time.
#[derive(Debug, Default)]
struct Health([(Option<Instant>, Option<Overdue>); 3]);

#[derive(Debug)]
struct Overdue {
    began: Instant,
    tether: Arc<Tether>,
}

impl Health {
    /// A call waits, and none that was begun after it was answered: it is not one container's trouble. A new process of
    /// the engine is another matter.
    fn hangs(&self) -> Option<Kind> {
        [Kind::Create, Kind::Start, Kind::Remove].into_iter().find(|kind| {
            let (answered, overdue) = &self.0[*kind as usize];
            overdue.as_ref().is_some_and(|overdue| {
                answered.is_none_or(|answered| answered < overdue.began) && overdue.tether.is_whole()
            })
        })
    }

    fn answered(&mut self, kind: Kind, began: Instant) {
        let (answered, _) = &mut self.0[kind as usize];
        *answered = (*answered).max(Some(began));
    }

    fn overdue(&mut self, kind: Kind, began: Instant, tether: &Arc<Tether>) {
        let (_, overdue) = &mut self.0[kind as usize];
        if overdue.as_ref().is_none_or(|before| before.began < began || !before.tether.is_whole()) {
            *overdue = Some(Overdue { began, tether: Arc::clone(tether) });
        }
    }
}

impl Calls {
    pub(super) fn new(at_once: NonZeroU32, patience: Duration) -> Self {
        let permits = usize::try_from(at_once.get()).unwrap_or(Semaphore::MAX_PERMITS);
        Self { gate: Arc::new(Semaphore::new(permits)), patience, health: Arc::new(watch::Sender::default()) }
    }

    /// Which calls the engine does not answer, although it answers pings.
    pub(super) fn hangs(&self) -> Option<Kind> {
        self.health.borrow().hangs()
    }

    /// The answer to a call: to the one under way, if there is one, else to this one.
    /// `Unreachable` means that there is none yet. Cancel-safe: the call goes on, and can be joined.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        pending: &Pending<T>,
        kind: Kind,
        client: &Client,
        call: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let mut under_way = pending.0.lock().await;
        if under_way.is_none() {
            let permit = self.enter(kind).await?;
            *under_way = Some(tasks::spawn("engine.call", self.watched(kind, client, Some(permit), call)));
        }
        self.answer(&mut under_way, kind).await.unwrap_or_else(|| Err(unanswered(kind)))
    }

    /// The answer to the call that is under way; `None`: there is none. Cancel-safe.
    pub(super) async fn join<T>(&self, pending: &Pending<T>, kind: Kind) -> Option<Result<T, Error>> {
        self.answer(&mut *pending.0.lock().await, kind).await
    }

    async fn answer<T>(&self, call: &mut Option<UnderWay<T>>, kind: Kind) -> Option<Result<T, Error>> {
        let joined = timeout(self.patience, call.as_mut()?).await;
        let Ok(joined) = joined else { return Some(Err(unanswered(kind))) };
        *call = None;
        Some(joined.unwrap_or_else(|panic| Err(Error::ends(Outcome::RuntimeError, panic.to_string()))))
    }

    /// A place among those that may call. While the engine hangs only a free one is taken.
    async fn enter(&self, kind: Kind) -> Result<OwnedSemaphorePermit, Error> {
        let mut health = self.health.subscribe();
        tokio::select! {
            biased;
            permit = Arc::clone(&self.gate).acquire_owned() => Ok(permit.expect("it is never closed")),
            _ = health.wait_for(|health| health.hangs().is_some()) => Err(unanswered(kind)),
        }
    }

    /// Carries a call out and notes whether it was answered. One that hangs gives its place to others.
    pub(super) fn watched<T, F: Future<Output = Result<T, Error>>>(
        &self,
        kind: Kind,
        client: &Client,
        permit: Option<OwnedSemaphorePermit>,
        call: F,
    ) -> impl Future<Output = Result<T, Error>> + use<T, F> {
        let (health, tether, patience) =
            (Arc::clone(&self.health), Arc::clone(&client.tether), self.patience);
        async move {
            let began = Instant::now();
            let mut call = std::pin::pin!(call);
            let answer = match timeout(patience, &mut call).await {
                Ok(answer) => answer,
                Err(_) => {
                    drop(permit);
                    health.send_modify(|health| health.overdue(kind, began, &tether));
                    call.await
                }
            };
            if !matches!(&answer, Err(error) if error.is_transient()) {
                health.send_modify(|health| health.answered(kind, began));
            }
            answer
        }
    }
}

/// A call of which there is one at a time: the lock is held by whoever waits for it.
#[derive(Debug)]
pub(super) struct Pending<T>(tokio::sync::Mutex<Option<UnderWay<T>>>);

type UnderWay<T> = JoinHandle<Result<T, Error>>;

impl<T> Default for Pending<T> {
    fn default() -> Self {
        Self(tokio::sync::Mutex::new(None))
    }
}

impl<T> Pending<T> {
    pub(super) fn is_under_way(&self) -> bool {
        self.0.try_lock().map_or(true, |call| call.is_some())
    }
}

/// What is said while the engine hangs.
pub(super) fn unanswered(kind: Kind) -> Error {
    Error::Unreachable(format!(
        "Docker takes the call to {kind} a container and gives no answer for {} s; if it stays so, restart it \
         (systemctl restart docker)",
        ANSWER.as_secs()
    ))
}

#[cfg(test)]
mod tests;
