//! Readings of the machine, counted, so that somebody can wait for one that began after a certain moment.

use std::{
    sync::{
        Arc,
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
    done: watch::Sender<u64>,
    wanted: Notify,
}

impl Default for Looks {
    fn default() -> Self {
        let (done, _) = watch::channel(0);
        Self(Arc::new(Inner { begun: AtomicU64::new(0), done, wanted: Notify::new() }))
    }
}

impl Looks {
    pub(crate) fn begin(&self) -> u64 {
        self.0.begun.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// What was seen in it has been told to whoever it concerns.
    pub(crate) fn done(&self, look: u64) {
        self.0.done.send_replace(look);
    }

    /// Returns when a look is wanted before its time. Cancel-safe, for one waiter.
    pub(crate) async fn wanted(&self) {
        self.0.wanted.notified().await;
    }

    /// Returns when a look that begins from now on is done, or the patience is at its end.
    pub(crate) async fn fresh(&self, patience: Duration) {
        let next = self.0.begun.load(Ordering::SeqCst) + 1;
        let mut done = self.0.done.subscribe();
        self.0.wanted.notify_one();
        // Without an answer what is known has to do.
        drop(timeout(patience, done.wait_for(|done| *done >= next)).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_look_that_had_begun_before_is_not_fresh() {
        let looks = Looks::default();
        let early = looks.begin();
        let waiting = looks.fresh(Duration::from_secs(3600));
        tokio::pin!(waiting);
        let told = async {
            looks.wanted().await;
            looks.done(early);
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
        tokio::select! {
            biased;
            () = &mut waiting => panic!("an old look was taken"),
            () = told => {}
        }
        looks.done(looks.begin());
        waiting.await;
    }
}
