//! Readings of the machine, counted, so that somebody can wait for one that began after a certain moment.

use crate::host::Age;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

#[derive(Clone, Debug)]
pub(crate) struct Looks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    begun: AtomicU64,
    /// The look that the question was put in that a slow driver has not answered yet.
    asked: Mutex<Option<u64>>,
    done: watch::Sender<u64>,
    wanted: Notify,
}

impl Default for Looks {
    fn default() -> Self {
        let (done, _) = watch::channel(0);
        Self(Arc::new(Inner {
            begun: AtomicU64::new(0),
            asked: Mutex::new(None),
            done,
            wanted: Notify::new(),
        }))
    }
}

impl Looks {
    pub(crate) fn begin(&self) -> u64 {
        self.0.begun.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// What was seen in it has been told to whoever it concerns. What is old was not seen in it.
    pub(crate) fn done(&self, look: u64, age: Age) {
        let mut asked = self.0.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = match age {
            Age::Fresh => {
                *asked = None;
                Some(look)
            }
            Age::Late => asked.replace(look),
            Age::Old => {
                asked.get_or_insert(look);
                None
            }
        };
        // Also without news: somebody may know enough by now.
        self.0.done.send_modify(|done| *done = seen.unwrap_or_default().max(*done));
    }

    /// Returns when a look is wanted before its time. Cancel-safe, for one waiter.
    pub(crate) async fn wanted(&self) {
        self.0.wanted.notified().await;
    }

    /// Returns when a look that begins from now on is done, or enough is known without it. `false`: the patience is
    /// at its end.
    pub(crate) async fn fresh(&self, patience: Duration, enough: impl Fn() -> bool + Send) -> bool {
        let next = self.0.begun.load(Ordering::SeqCst) + 1;
        let mut done = self.0.done.subscribe();
        self.0.wanted.notify_one();
        timeout(patience, done.wait_for(move |done| *done >= next || enough())).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_look_that_had_begun_before_is_not_fresh() {
        let looks = Looks::default();
        let early = looks.begin();
        let waiting = looks.fresh(Duration::from_secs(3600), || false);
        tokio::pin!(waiting);
        let told = async {
            looks.wanted().await;
            looks.done(early, Age::Fresh);
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("an old look was taken"),
            () = told => {}
        }
        looks.done(looks.begin(), Age::Fresh);
        assert!(waiting.await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_slow_driver_said_before_is_no_look_of_now() {
        let looks = Looks::default();
        let patience = Duration::from_secs(30);
        let slow = async {
            looks.wanted().await;
            for age in [Age::Old, Age::Old] {
                looks.done(looks.begin(), age);
                tokio::time::sleep(Duration::from_secs(3)).await;
            }
            // To what was asked in the first of them.
            looks.done(looks.begin(), Age::Late);
        };
        let began = tokio::time::Instant::now();
        let (fresh, ()) = tokio::join!(looks.fresh(patience, || false), slow);
        assert!(fresh && began.elapsed() == Duration::from_secs(6), "{:?}", began.elapsed());
        // It was asked anew in the late one, before this.
        let slow = async {
            looks.wanted().await;
            looks.done(looks.begin(), Age::Late);
            tokio::time::sleep(Duration::from_secs(3)).await;
            looks.done(looks.begin(), Age::Late);
        };
        let began = tokio::time::Instant::now();
        let (fresh, ()) = tokio::join!(looks.fresh(patience, || false), slow);
        assert!(fresh && began.elapsed() == Duration::from_secs(3), "{:?}", began.elapsed());
        assert!(!looks.fresh(patience, || false).await, "nobody looks any more");
        let silent = async {
            looks.wanted().await;
            looks.done(looks.begin(), Age::Old);
        };
        assert!(tokio::join!(looks.fresh(patience, || true), silent).0, "enough is known");
    }
}
