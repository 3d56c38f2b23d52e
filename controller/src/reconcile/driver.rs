//! Runs one reconciler: at start, after a nudge, when it said that something is due, and every so often anyway.

use async_trait::async_trait;
use longshore_common::{clock::Timestamp, retry::Backoff, shutdown::Shutdown};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

#[async_trait]
pub(super) trait Reconciler: Send {
    const NAME: &'static str;
    /// The slow sweep.
    const EVERY: Duration;
    /// Its sweep waits for strangers and may be cut off at any wait.
    const CUT_OFF: bool = false;
    type Error: std::fmt::Display + Send;

    /// Looks and acts. Answers when something is due next, if it knows.
    async fn sweep(&mut self) -> Result<Option<Timestamp>, Self::Error>;

    /// Returns when looking again may be worth it. Cancel-safe.
    async fn nudged(&mut self);
}

/// Two sweeps are at least this far apart, so that a storm of nudges costs little.
const PAUSE: Duration = Duration::from_millis(50);

pub(super) async fn drive<R: Reconciler>(mut reconciler: R, shutdown: Shutdown) {
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
    let mut failing = false;
    while !shutdown.is_triggered() {
        let swept = tokio::select! {
            swept = reconciler.sweep() => swept,
            () = shutdown.triggered(), if R::CUT_OFF => return,
        };
        let wait = match swept {
            Ok(due) => {
                if std::mem::take(&mut failing) {
                    tracing::info!(reconciler = R::NAME, "works again");
                }
                backoff.reset();
                due.map_or(R::EVERY, |due| due.since(Timestamp::now()).min(R::EVERY))
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!(reconciler = R::NAME, %error, "failed; trying on");
                }
                backoff.next_wait()
            }
        };
        let earliest = Instant::now() + PAUSE;
        let latest = Instant::now() + wait.max(PAUSE);
        tokio::select! {
            () = sleep_until(latest) => {}
            () = reconciler.nudged(), if !failing => {
                tokio::select! {
                    () = sleep_until(earliest) => {}
                    () = shutdown.triggered() => return,
                }
            }
            () = shutdown.triggered() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    struct Hanging(mpsc::Sender<()>);

    #[async_trait]
    impl Reconciler for Hanging {
        const NAME: &'static str = "hanging";
        const EVERY: Duration = Duration::from_secs(1);
        const CUT_OFF: bool = true;
        type Error = std::fmt::Error;

        async fn sweep(&mut self) -> Result<Option<Timestamp>, std::fmt::Error> {
            self.0.send(()).await.expect("heard");
            std::future::pending().await
        }

        async fn nudged(&mut self) {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn a_controller_that_leaves_does_not_wait_for_a_server_that_hangs() {
        let ((sender, mut begun), shutdown) = (mpsc::channel(1), Shutdown::new());
        let loops = longshore_common::tasks::spawn("hanging", drive(Hanging(sender), shutdown.clone()));
        begun.recv().await.expect("it asks");
        shutdown.trigger();
        loops.await.expect("it ended");
    }
}
