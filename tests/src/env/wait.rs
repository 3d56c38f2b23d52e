//! Waiting for a condition with a deadline, instead of sleeping for a time.

use std::{
    fmt::Debug,
    future::Future,
    time::{Duration, Instant},
};

/// How long anything may take before it counts as never: only a failure waits so long, a slow machine does not fail.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Asks until the answer is `Ok`, with `PATIENCE`. Panics with the last `Err`, which says what was seen instead.
pub async fn until<T, E, F>(what: &str, ask: impl FnMut() -> F) -> T
where
    E: Debug,
    F: Future<Output = Result<T, E>>,
{
    until_within(PATIENCE, what, ask).await
}

/// `until` with another deadline.
pub async fn until_within<T, E, F>(limit: Duration, what: &str, mut ask: impl FnMut() -> F) -> T
where
    E: Debug,
    F: Future<Output = Result<T, E>>,
{
    let deadline = Instant::now() + limit;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(seen) if Instant::now() >= deadline => panic!("not after {limit:?}: {what}; seen: {seen:?}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(25)).await,
        }
    }
}
