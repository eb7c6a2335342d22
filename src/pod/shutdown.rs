//! When the shim ends.

use std::sync::Arc;

use tokio::sync::watch;

/// Says that the shim is to end, and tells when somebody has said so. Clones are the same handle.
#[derive(Debug, Clone)]
pub struct Shutdown(Arc<watch::Sender<bool>>);

impl Shutdown {
    /// A handle that nobody has triggered.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Lets the shim end: the reply of the call that is being served leaves first. Containers
    /// that run go on running. Triggering twice changes nothing.
    pub fn trigger(&self) {
        self.0.send_replace(true);
    }

    /// Waits until somebody triggers, or returns at once if somebody has.
    pub async fn triggered(&self) {
        // It fails only without a sender, which `self` holds.
        let _ = self.0.subscribe().wait_for(|triggered| *triggered).await;
    }
}
