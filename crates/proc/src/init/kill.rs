//! Kill: a signal to init, or to every process of the container. It is not refused while another
//! verb is in progress, since it is the way out of one that hangs.

use stasis_engine::{Error as EngineError, Signal, Target};

use super::Init;
use crate::{Error, Result};

impl Init {
    /// Signals the init process.
    ///
    /// # Errors
    /// [`Error::Finished`] if it has ended, or if the runtime refuses.
    pub async fn kill(&self, signal: Signal) -> Result<()> {
        let process = self.life.target(self.id())?;
        self.signal(signal, Target::Init(process.pid())).await
    }

    /// Signals every process of the container.
    ///
    /// # Errors
    /// [`Error::Finished`] if they have ended, or if the runtime refuses.
    pub async fn kill_all(&self, signal: Signal) -> Result<()> {
        let process = self.life.target(self.id())?;
        self.signal(signal, Target::All(process.pid())).await
    }

    async fn signal(&self, signal: Signal, target: Target) -> Result<()> {
        match self.config.engine.kill(self.id(), signal, target).await {
            Ok(()) => Ok(()),
            Err(EngineError::NoSuchProcess { .. } | EngineError::NoSuchContainer { .. }) => {
                Err(Error::Finished {
                    id: self.id().to_owned(),
                })
            }
            Err(error) => Err(error.into()),
        }
    }
}
