//! Pause and Resume.

use containerd_shim_protos::events::task::{TaskPaused, TaskResumed};

use super::{Result, Shared};

impl Shared {
    /// Freezes the container.
    ///
    /// # Errors
    /// If it does not run.
    pub async fn pause(&self) -> Result<()> {
        self.init.pause().await?;
        let container_id = self.id.clone();
        self.publisher.publish(&TaskPaused {
            container_id,
            ..TaskPaused::default()
        });
        Ok(())
    }

    /// Thaws the container. containerd also calls this after a checkpoint that ended the
    /// container, which is then no error.
    ///
    /// # Errors
    /// If it is not paused.
    pub async fn resume(&self) -> Result<()> {
        if !self.init.resume().await? {
            return Ok(());
        }
        let container_id = self.id.clone();
        self.publisher.publish(&TaskResumed {
            container_id,
            ..TaskResumed::default()
        });
        Ok(())
    }
}
