//! Which of several processes a task belongs to, where one real process plays them all: a simulation runs a whole
//! cluster, ends a part of it as SIGKILL would, and gives every machine a clock of its own. Outside of one there is
//! none, and nothing here changes anything.

use crate::clock::{Timestamp, Uptime};
use std::{
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use tokio::{
    task::{AbortHandle, JoinHandle},
    time::Instant,
};

/// Ended tasks are forgotten when this many more have been started.
const FORGET_EVERY: usize = 256;

tokio::task_local! {
    static CURRENT: Process;
}

/// A played process: what `tasks::spawn` starts inside one belongs to it too. Clones are the same process.
#[derive(Clone, Debug)]
pub struct Process(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Arc<WallClock>,
    tasks: Mutex<Tasks>,
}

#[derive(Debug, Default)]
struct Tasks {
    killed: bool,
    alive: Vec<AbortHandle>,
    forget_at: usize,
}

/// One machine's idea of the time of day. It goes with tokio's clock, off by as much as it is told.
#[derive(Debug)]
pub struct WallClock {
    origin: (Instant, Timestamp),
    off_micros: AtomicI64,
}

impl WallClock {
    /// Right: it shows `at` now.
    pub fn new(at: Timestamp) -> Self {
        Self { origin: (Instant::now(), at), off_micros: AtomicI64::new(0) }
    }

    pub fn set_ahead(&self, ahead: Duration) {
        self.off_micros.store(micros(ahead), Ordering::Relaxed);
    }

    pub fn set_behind(&self, behind: Duration) {
        self.off_micros.store(-micros(behind), Ordering::Relaxed);
    }

    /// Whatever the time of day is set to.
    pub fn uptime(&self) -> Uptime {
        Uptime::of(self.origin.0.elapsed())
    }

    pub fn now(&self) -> Timestamp {
        let (since, at) = self.origin;
        let right = at.plus(since.elapsed()).as_micros();
        Timestamp::from_micros(right.saturating_add(self.off_micros.load(Ordering::Relaxed)))
    }
}

impl Process {
    pub fn new(clock: Arc<WallClock>) -> Self {
        Self(Arc::new(Inner { clock, tasks: Mutex::default() }))
    }

    /// The process of this task.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// Its wall clock.
    pub(crate) fn wall_clock() -> Option<Timestamp> {
        CURRENT.try_with(|process| process.0.clock.now()).ok()
    }

    /// Since its machine was started.
    pub(crate) fn uptime() -> Option<Uptime> {
        CURRENT.try_with(|process| process.0.clock.uptime()).ok()
    }

    /// Does `work` as a part of it. It is not ended with it unless it is a task of it.
    pub async fn within<F: Future>(self, work: F) -> F::Output {
        CURRENT.scope(self, work).await
    }

    /// As `within`; what `work` spawns is a task of it.
    pub fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self.clone(), work)
    }

    /// A task of it.
    pub(crate) fn spawn<F>(self, work: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let scoped = CURRENT.scope(self.clone(), work);
        #[expect(clippy::disallowed_methods, reason = "tasks::spawn is the only caller")]
        let task = tokio::spawn(scoped);
        self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner).keep(task.abort_handle());
        task
    }

    /// Ends all its tasks where they stand, as SIGKILL does. Returns when none is left.
    pub async fn kill(&self) {
        let alive = {
            let mut tasks = self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.killed = true;
            std::mem::take(&mut tasks.alive)
        };
        alive.iter().for_each(AbortHandle::abort);
        while alive.iter().any(|task| !task.is_finished()) {
            tokio::task::yield_now().await;
        }
    }
}

impl Tasks {
    fn keep(&mut self, task: AbortHandle) {
        if self.killed {
            // Started by one that is about to end.
            task.abort();
            return;
        }
        if self.alive.len() >= self.forget_at {
            self.alive.retain(|task| !task.is_finished());
            self.forget_at = self.alive.len() + FORGET_EVERY;
        }
        self.alive.push(task);
    }
}

fn micros(length: Duration) -> i64 {
    i64::try_from(length.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks;
    use std::future::pending;
    use tokio::sync::oneshot;

    const NOON: Timestamp = Timestamp::from_micros(1_000_000_000);

    #[tokio::test(start_paused = true)]
    async fn what_a_task_started_ends_with_its_process_and_nothing_else_does() {
        let clock = || Arc::new(WallClock::new(NOON));
        let (killed, other) = (Process::new(clock()), Process::new(clock()));
        let start = |process: &Process| {
            let (alive, gone) = oneshot::channel::<()>();
            let nested = async {
                drop(tasks::spawn("child", async move {
                    pending::<()>().await;
                    drop(alive);
                }));
                pending::<()>().await;
            };
            drop(process.clone().spawn(nested));
            gone
        };
        let (gone, mut there) = (start(&killed), start(&other));
        tokio::task::yield_now().await;
        killed.kill().await;
        assert!(gone.await.is_err());
        assert!(matches!(there.try_recv(), Err(oneshot::error::TryRecvError::Empty)));
    }

    #[tokio::test(start_paused = true)]
    async fn every_process_has_the_time_of_its_machine() {
        let clock = Arc::new(WallClock::new(NOON));
        let process = Process::new(Arc::clone(&clock));
        let told = || process.clone().within(async { tasks::spawn("ask", async { Timestamp::now() }).await });
        assert_eq!(told().await.unwrap(), NOON);
        clock.set_behind(Duration::from_secs(600));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(told().await.unwrap(), NOON.plus(Duration::from_secs(1)).minus(Duration::from_secs(600)));
        assert_ne!(Timestamp::now().since(NOON), Duration::ZERO);
    }
}
