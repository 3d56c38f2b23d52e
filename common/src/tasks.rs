//! The only home of `tokio::spawn`: a task has a name, a span and a policy.

use crate::process::Process;
use std::future::Future;
use tokio::task::JoinHandle;
use tracing::Instrument as _;

/// Runs `work` beside the caller. A panic is logged with the task's name and given to whoever joins.
pub fn spawn<F>(name: &'static str, work: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let span = tracing::info_span!("task", task.name = name);
    let guard = Named(name);
    let work = async move {
        let output = work.await;
        std::mem::forget(guard);
        output
    }
    .instrument(span);
    match Process::current() {
        Some(process) => process.spawn(work),
        #[expect(clippy::disallowed_methods, reason = "this is the home of spawn")]
        None => tokio::spawn(work),
    }
}

/// Says the task's name if it is dropped by a panic.
struct Named(&'static str);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(task.name = self.0, "task panicked");
        }
    }
}
