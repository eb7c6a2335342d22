//! Delete: the runtime forgets the container, and what was made for it is removed.

use std::time::Duration;

use stasis_engine::Error as EngineError;
use tokio::time::timeout;

use super::{handle::Init, state::InitState, verb::Verb};
use crate::{
    error::{Error, Result},
    exit::Exit,
    status::Status,
};

/// How long a process that was killed may take until its end is seen.
pub(super) const EXIT_LIMIT: Duration = Duration::from_secs(10);

/// How long the output may take to be read to its end: a reader that hangs must not keep the
/// container.
pub(crate) const DRAIN_LIMIT: Duration = Duration::from_secs(10);

impl Init {
    /// Removes a container that does not run, and tells how it ended. One that never ran has no
    /// status of its own ([`crate::NO_STATUS`]). One that was deleted is left as it is.
    ///
    /// # Errors
    /// If it runs, or if the runtime refuses: then it can be tried again.
    pub async fn delete(&self) -> Result<Exit> {
        let permit = self.life.permit(Verb::Delete)?;
        let pending = |state: &_, _| matches!(state, InitState::CreatedFromCheckpoint(_));
        // Before the output is drained: it kills what else holds the pipes, and what was written
        // stays in them.
        match self.status() {
            Status::Deleted => return self.ended_within_limit().await,
            Status::Stopped => self.delete_ended().await?,
            _ if self.life.look(pending) => {
                self.life.stop(Exit::without_status(self.id()));
            }
            _ => self.config.engine.delete(self.id(), true).await?,
        }
        let exit = self.ended_within_limit().await?;
        if let Some(streams) = self.streams()
            && !streams.drain(DRAIN_LIMIT).await
        {
            tracing::warn!(id = self.id(), "output is lost: nobody has read it in time");
        }
        self.close_streams();
        self.remove_files();
        permit.commit(InitState::Deleted);
        Ok(exit)
    }

    /// Removes what the runtime keeps of a container that has ended, and kills what has survived
    /// its init. Not by force at once: `runc delete --force` kills and then sleeps for 100 ms
    /// whatever there is to kill.
    async fn delete_ended(&self) -> Result<()> {
        let engine = &self.config.engine;
        match engine.delete(self.id(), false).await {
            // It may have another view of the end: what has survived init in a frozen cgroup is a
            // paused container to runc and crun.
            Err(error @ EngineError::Failed { .. }) => {
                tracing::debug!(id = self.id(), %error, "it is deleted by force");
                Ok(engine.delete(self.id(), true).await?)
            }
            result => Ok(result?),
        }
    }

    /// Waits for an exit that is on its way.
    pub(super) async fn ended_within_limit(&self) -> Result<Exit> {
        timeout(EXIT_LIMIT, self.life.ended())
            .await
            .map_err(|_| Error::StillRunning {
                id: self.id().to_owned(),
                after: EXIT_LIMIT,
            })
    }

    /// Removes what the runtime may have left of a container that could not be made.
    pub(super) async fn delete_from_engine(&self) {
        if let Err(error) = self.config.engine.delete(self.id(), true).await {
            tracing::warn!(id = self.id(), %error, "cannot remove what is left in the runtime");
        }
    }
}
