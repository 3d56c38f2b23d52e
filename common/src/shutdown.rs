//! Leaving: the process was told to stop. (Cancel is a user's word about a job, lost is a lease's.)

use tokio_util::sync::CancellationToken;

/// Cloned into every task; triggered once. Work that must finish ignores it.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn trigger(&self) {
        self.0.cancel();
    }

    pub fn is_triggered(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Returns when the process was told to stop. Cancel-safe.
    pub async fn triggered(&self) {
        self.0.cancelled().await;
    }

    /// A token that ends with this one and can be triggered alone.
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }
}
