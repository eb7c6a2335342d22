//! Start, and restore, which is the start of a container that was created from a checkpoint.

use std::sync::Arc;

use nix::unistd::Pid;
use stasis_engine::Restore;
use tokio::sync::oneshot;

use super::{
    config::RestoreConfig,
    handle::{Init, cannot_watch},
    state::{InitState, Permit},
    verb::Verb,
};
use crate::{error::Result, exit::Exit, monitor::Watched, sync::lock};

impl Init {
    /// Lets the container run: its created init, or what its checkpoint holds.
    ///
    /// # Errors
    /// If it runs already or has ended, or if the runtime refuses. A container that could not be
    /// restored, or was killed meanwhile, is stopped then, and has an exit.
    pub async fn start(self: &Arc<Self>) -> Result<Pid> {
        let permit = self.life.permit(Verb::Start)?;
        let restore = self.life.look(|state, _| match state {
            InitState::CreatedFromCheckpoint(config) => Some(config.clone()),
            _ => None,
        });
        match restore {
            Some(config) => {
                self.restore_permitted(permit.turn_into(Verb::Restore), config)
                    .await
            }
            None => self.start_created(&permit).await,
        }
    }

    /// Restores a container that was created from a checkpoint, from the image that is named
    /// here.
    ///
    /// # Errors
    /// As [`Init::start`].
    pub async fn restore(self: &Arc<Self>, config: RestoreConfig) -> Result<Pid> {
        let permit = self.life.permit(Verb::Restore)?;
        self.restore_permitted(permit, config).await
    }

    async fn start_created(&self, permit: &Permit) -> Result<Pid> {
        let process = self.life.target(self.id())?;
        self.config.engine.start(self.id()).await?;
        let pid = process.pid();
        permit.commit(InitState::Running(process));
        Ok(pid)
    }

    async fn restore_permitted(
        self: &Arc<Self>,
        permit: Permit,
        config: RestoreConfig,
    ) -> Result<Pid> {
        match self.revive(config).await {
            Ok(process) => {
                let pid = process.pid();
                permit.commit(InitState::Running(process.clone()));
                self.watch(process);
                Ok(pid)
            }
            Err(error) => {
                // Nothing of it ever ran, so no exit is sent. But waiting for it must not hang,
                // and only what is stopped can be deleted.
                self.life.stop(Exit::without_status(self.id()));
                self.close_streams();
                self.remove_files();
                Err(error)
            }
        }
    }

    async fn revive(&self, config: RestoreConfig) -> Result<Watched> {
        let stdio = self
            .streams()
            .map(|streams| streams.container_ends())
            .unwrap_or_default();
        let (give_up, given_up) = oneshot::channel();
        *lock(&self.restoring) = Some(give_up);
        let request = Restore {
            bundle: self.config.bundle.clone(),
            pid_file: self.pid_file(),
            image: config.image,
            work: config.work,
            stdio,
            options: config.options,
            given_up: Some(given_up),
        };
        let birth = self.config.monitor.expect_birth();
        let pid = self.config.engine.restore(self.id(), request).await?;
        match birth.adopt(pid) {
            Ok(process) => Ok(process),
            Err(error) => {
                self.delete_from_engine().await;
                Err(cannot_watch(self.id(), pid)(error))
            }
        }
    }
}
