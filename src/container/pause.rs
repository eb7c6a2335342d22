//! Pause and Resume.

use super::{Result, Shared};
use crate::events::Event;

impl Shared {
    /// Freezes the container.
    ///
    /// # Errors
    /// If it does not run.
    pub async fn pause(&self) -> Result<()> {
        self.init.pause().await?;
        self.publish(Event::Paused);
        Ok(())
    }

    /// Thaws the container. containerd also calls this after a checkpoint that ended the
    /// container, which is then no error.
    ///
    /// # Errors
    /// If it is not paused.
    pub async fn resume(&self) -> Result<()> {
        if self.init.resume().await? {
            self.publish(Event::Resumed);
        }
        Ok(())
    }
}
