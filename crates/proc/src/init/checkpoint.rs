//! A checkpoint, as far as the container takes part in it: it is kept still and shut to other
//! verbs while the shim plans, dumps and seals.
//!
//! ```text
//! begin_checkpoint ─► freeze ─► dump ────► (the shim seals the image) ─► release    it goes on
//!                                    │                               └─► end        it has ended
//!                                    └─ EndsByCriu ─► (seal) ──────────► ended_by_criu
//! ```
//!
//! A container leaves a checkpoint in the state in which it came, unless it was told to end; and
//! it ends only after its image is sealed, which is why it is dumped to go on in either case.

use std::sync::Arc;

use stasis_engine::{Checkpoint, CheckpointReport};

use super::{
    handle::Init,
    state::{InitState, Permit},
    verb::Verb,
};
use crate::{error::Result, exit::Exit};

impl Init {
    /// Shuts the container to every other verb that would change it, for a checkpoint. Its state
    /// and its end can be asked for meanwhile, and it can be killed.
    ///
    /// # Errors
    /// If it neither runs nor is paused, or if another verb is in progress.
    pub fn begin_checkpoint(self: &Arc<Self>) -> Result<Checkpointing> {
        let permit = self.life.permit(Verb::Checkpoint)?;
        let was_paused = self
            .life
            .look(|state, _| matches!(state, InitState::Paused(_)));
        Ok(Checkpointing {
            init: Arc::clone(self),
            permit,
            was_paused,
            over: false,
        })
    }
}

/// A checkpoint in progress: see [`Init::begin_checkpoint`]. It is to be closed by one of
/// [`end`](Self::end), [`ended_by_criu`](Self::ended_by_criu) and [`release`](Self::release).
/// If it is dropped instead, the container is open to other verbs, in the state that
/// [`Init::status`] tells.
#[derive(Debug)]
pub struct Checkpointing {
    init: Arc<Init>,
    permit: Permit,
    was_paused: bool,
    over: bool,
}

impl Checkpointing {
    /// Whether the container came paused.
    #[must_use]
    pub fn was_paused(&self) -> bool {
        self.was_paused
    }

    /// Freezes the container if it runs.
    ///
    /// # Errors
    /// If the runtime refuses.
    pub async fn freeze(&self) -> Result<()> {
        self.init.freeze(&self.permit).await
    }

    /// Dumps the container.
    ///
    /// # Errors
    /// As [`stasis_engine::Engine::checkpoint`]. The container is as before, unless the engine says
    /// that it is not ([`stasis_engine::Error::Left`]), and then in the state that it says.
    pub async fn dump(&self, request: &Checkpoint) -> Result<CheckpointReport> {
        let engine = &self.init.config.engine;
        let dumped = engine.checkpoint(self.init.id(), request).await;
        if let Err(stasis_engine::Error::Left { frozen, .. }) = &dumped {
            self.init.left(*frozen, &self.permit);
        }
        Ok(dumped?)
    }

    /// Ends the dumped container without letting it run again, and waits for its end, but not
    /// for long: there is no way back from a kill, so that a slow end is no failure of the
    /// checkpoint. `None` if the end is still to come. One that has ended by itself meanwhile is
    /// let be.
    ///
    /// # Errors
    /// If the runtime refuses. The container is then thawed if [`freeze`](Self::freeze) froze it.
    pub async fn end(mut self) -> Result<Option<Exit>> {
        self.over = true;
        match self.kill_frozen().await {
            Ok(()) => Ok(self.killed().await),
            Err(error) => {
                if let Err(error) = self.thaw().await {
                    tracing::warn!(id = self.init.id(), %error, "a container stays frozen");
                }
                Err(error)
            }
        }
    }

    /// Waits for the end of a container that CRIU has ended at the end of its dump, as
    /// [`end`](Self::end) does.
    pub async fn ended_by_criu(mut self) -> Option<Exit> {
        self.over = true;
        self.killed().await
    }

    /// Lets the container go on in the state in which it came.
    ///
    /// # Errors
    /// If it cannot be thawed; it is paused then.
    pub async fn release(mut self) -> Result<()> {
        self.over = true;
        self.thaw().await
    }

    async fn kill_frozen(&self) -> Result<()> {
        self.freeze().await?;
        if let Some(process) = self.init.life.process() {
            let engine = &self.init.config.engine;
            engine
                .end_frozen(self.init.id(), process.pid(), process.pidfd())
                .await?;
        }
        Ok(())
    }

    /// Records the kill, and waits for the end.
    async fn killed(&self) -> Option<Exit> {
        self.init.life.killed_by_checkpoint();
        let exit = self.init.ended_within_limit().await;
        if let Err(error) = &exit {
            tracing::warn!(id = self.init.id(), %error, "the end after a checkpoint is slow");
        }
        exit.ok()
    }

    /// Undoes [`freeze`](Self::freeze).
    async fn thaw(&self) -> Result<()> {
        if self.was_paused {
            Ok(())
        } else {
            self.init.thaw(&self.permit).await.map(drop)
        }
    }
}

impl Drop for Checkpointing {
    fn drop(&mut self) {
        if !self.over {
            let status = self.init.status();
            tracing::warn!(id = self.init.id(), ?status, "a checkpoint was abandoned");
        }
    }
}
