//! Work on image files, away from the thread that serves requests.

use stasis_engine::manifest;
use tokio::task::spawn_blocking;

use super::{Error, Result};

/// Runs `work` on a thread that may block.
pub(super) async fn off_thread<T, F>(work: F) -> Result<T>
where
    F: FnOnce() -> manifest::Result<T> + Send + 'static,
    T: Send + 'static,
{
    match spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(fault) => Err(Error::Fault(fault)),
    }
}
