//! For tests: kills the process at a statement of its choice, as if the power had gone.

use std::sync::atomic::{AtomicU64, Ordering};

static PASSED: AtomicU64 = AtomicU64::new(0);
static AT: AtomicU64 = AtomicU64::new(0);

/// The process ends at the `statement`-th statement from here; zero: never.
pub(crate) fn after(statement: u64) {
    PASSED.store(0, Ordering::SeqCst);
    AT.store(statement, Ordering::SeqCst);
}

/// Statements since `after`.
pub(crate) fn passed() -> u64 {
    PASSED.load(Ordering::SeqCst)
}

pub(super) fn point() {
    if PASSED.fetch_add(1, Ordering::SeqCst) + 1 == AT.load(Ordering::SeqCst) {
        let killed = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        unreachable!("a process that was killed goes on: {killed:?}");
    }
}
