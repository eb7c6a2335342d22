//! Create: the container is made and its init waits; or, with a checkpoint, nothing is made until
//! the start, and only the streams are opened.

use std::sync::Arc;

use stasis_engine::Create;

use super::{
    config::CreateConfig,
    handle::{Init, cannot_watch},
    state::InitState,
    verb::Verb,
};
use crate::{error::Result, monitor::Watched, stdio::Streams, sync::lock};

impl Init {
    /// Makes the container. If that fails, nothing is left of it.
    ///
    /// # Errors
    /// If it was made already, for streams that are not supported, or if the runtime refuses.
    pub async fn create(self: &Arc<Self>, config: CreateConfig) -> Result<()> {
        let permit = self.life.permit(Verb::Create)?;
        let streams = Arc::new(Streams::open(&config.stdio, self.owner())?);
        *lock(&self.streams) = Some(Arc::clone(&streams));
        if let Some(restore) = config.restore {
            permit.commit(InitState::CreatedFromCheckpoint(restore));
            return Ok(());
        }
        match self.make(&streams).await {
            Ok(process) => {
                permit.commit(InitState::Created(process.clone()));
                self.watch(process);
                Ok(())
            }
            Err(error) => {
                self.undo_create().await;
                Err(error)
            }
        }
    }

    async fn make(&self, streams: &Streams) -> Result<Watched> {
        let request = Create {
            bundle: self.config.bundle.clone(),
            pid_file: self.pid_file(),
            stdio: streams.container_ends(),
        };
        // Announced before and adopted right after: an init that ends at once, or is killed
        // before it is started, would be reaped unseen.
        let birth = self.config.monitor.expect_birth();
        let pid = self.config.engine.create(self.id(), request).await?;
        birth.adopt(pid).map_err(cannot_watch(self.id(), pid))
    }

    /// Removes what a create left that failed somewhere.
    async fn undo_create(&self) {
        self.delete_from_engine().await;
        self.close_streams();
        *lock(&self.streams) = None;
        self.remove_files();
    }
}
