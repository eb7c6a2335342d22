//! Work on image files, away from the thread that serves requests.

use tokio::task::spawn_blocking;

use super::{Error, Result};

/// Runs `work` on a thread that may block.
pub(super) async fn off_thread<T, E, F>(work: F) -> Result<T>
where
    F: FnOnce() -> std::result::Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: Into<Error> + Send + 'static,
{
    match spawn_blocking(work).await {
        Ok(done) => done.map_err(Into::into),
        Err(fault) => Err(Error::Fault(fault)),
    }
}
