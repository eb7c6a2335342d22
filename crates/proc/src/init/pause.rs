//! Pause and resume.

use super::{
    handle::Init,
    state::{InitState, Permit},
    verb::Verb,
};
use crate::error::Result;

impl Init {
    /// Freezes the running container.
    ///
    /// # Errors
    /// If it does not run, or if the runtime refuses.
    pub async fn pause(&self) -> Result<()> {
        let permit = self.life.permit(Verb::Pause)?;
        self.freeze(&permit).await
    }

    /// Thaws the paused container. One that a checkpoint has ended as it was told is let be:
    /// containerd resumes whatever it paused for a checkpoint. Says whether it was thawed.
    ///
    /// # Errors
    /// If it is not paused, or if the runtime refuses.
    pub async fn resume(&self) -> Result<bool> {
        let permit = self.life.permit(Verb::Resume)?;
        self.thaw(&permit).await
    }

    /// Freezes it if it runs.
    pub(super) async fn freeze(&self, permit: &Permit) -> Result<()> {
        let running = self.life.look(|state, _| match state {
            InitState::Running(process) => Some(process.clone()),
            _ => None,
        });
        if let Some(process) = running {
            let engine = &self.config.engine;
            engine.pause(self.id(), process.pid()).await?;
            permit.commit(InitState::Paused(process));
        }
        Ok(())
    }

    /// Thaws it if it is paused, and says whether it was.
    pub(super) async fn thaw(&self, permit: &Permit) -> Result<bool> {
        let paused = self.life.look(|state, _| match state {
            InitState::Paused(process) => Some(process.clone()),
            _ => None,
        });
        let Some(process) = paused else {
            return Ok(false);
        };
        self.config.engine.resume(self.id()).await?;
        permit.commit(InitState::Running(process));
        Ok(true)
    }

    /// Records that a checkpoint has left it frozen, or running.
    pub(super) fn left(&self, frozen: bool, permit: &Permit) {
        if let Some(process) = self.life.process() {
            permit.commit(match frozen {
                true => InitState::Paused(process),
                false => InitState::Running(process),
            });
        }
    }
}
