//! Kill: a signal to init, or to every process of the container. It is not refused while another
//! verb is in progress, since it is the way out of one that hangs. During a restore there is no
//! process of the container yet that could be signalled: SIGKILL gives the restore up, and every
//! other signal is refused.

use nix::unistd::Pid;
use stasis_engine::{Error as EngineError, Signal, Target};

use super::handle::Init;
use crate::{
    error::{Error, Result},
    monitor::Watched,
    sync::lock,
};

impl Init {
    /// Signals the init process.
    ///
    /// # Errors
    /// [`Error::Finished`] if it has ended, or if the runtime refuses.
    pub async fn kill(&self, signal: Signal) -> Result<()> {
        if signal == Signal::KILL && self.give_up_restore() {
            return Ok(());
        }
        let process = self.life.target(self.id())?;
        self.signal(signal, &process, Target::Init).await
    }

    /// Signals every process of the container.
    ///
    /// # Errors
    /// [`Error::Finished`] if they have ended, or if the runtime refuses.
    pub async fn kill_all(&self, signal: Signal) -> Result<()> {
        if signal == Signal::KILL && self.give_up_restore() {
            return Ok(());
        }
        let process = self.life.target(self.id())?;
        self.signal(signal, &process, Target::All).await
    }

    /// Has the engine kill the restore in progress, which fails then. Says whether there is one.
    fn give_up_restore(&self) -> bool {
        let give_up = lock(&self.restoring).take();
        // The engine's call may be over by now.
        give_up.is_some_and(|give_up| give_up.send(()).is_ok())
    }

    async fn signal(
        &self,
        signal: Signal,
        process: &Watched,
        target: fn(Pid) -> Target,
    ) -> Result<()> {
        let (engine, target) = (&self.config.engine, target(process.pid()));
        match engine
            .kill(self.id(), signal, target, process.pidfd())
            .await
        {
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
