//! The end of a container: it stops whatever is in progress, is told once, and waited for by any
//! number.

use std::{sync::Arc, time::SystemTime};

use stasis_engine::{Error as EngineError, Signal, Target};

use super::handle::Init;
use crate::{exit::Exit, monitor::Watched};

impl Init {
    /// Waits for the end of the container; any number may wait, before and after it.
    pub async fn wait(&self) -> Exit {
        self.life.ended().await
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn exit_status(&self) -> Option<u32> {
        self.life.exit().map(|exit| exit.status)
    }

    /// When it ended, if it has.
    #[must_use]
    pub fn exited_at(&self) -> Option<SystemTime> {
        self.life.exit().map(|exit| exit.timestamp)
    }

    /// Records an end that was seen by other means than the process. The first record counts, and
    /// is the one that is sent.
    pub fn set_exited(&self, exit: Exit) {
        if let Some(streams) = self.streams() {
            streams.process_ended();
        }
        if self.life.stop(exit.clone()) && self.config.exits.send(exit).is_err() {
            tracing::debug!(id = self.id(), "nobody takes exits any more");
        }
    }

    /// Tells of the end of `process` when it comes. Called once its state is committed.
    pub(super) fn watch(self: &Arc<Self>, process: Watched) {
        let _ = self.pid.set(process.pid());
        let init = Arc::clone(self);
        tokio::spawn(async move {
            let exit = process.wait().await;
            // Before the exit is told, so that it tells the end of the whole container.
            if init.config.kill_all_on_exit {
                init.kill_rest(&process).await;
            }
            if let Some(streams) = init.streams() {
                streams.taken().await;
            }
            init.set_exited(Exit::of(init.id(), exit));
        });
    }

    /// Kills what has survived init.
    async fn kill_rest(&self, init: &Watched) {
        match self
            .config
            .engine
            .kill(
                self.id(),
                Signal::KILL,
                Target::All(init.pid()),
                init.pidfd(),
            )
            .await
        {
            Ok(()) | Err(EngineError::NoSuchProcess { .. }) => {}
            Err(error) => {
                tracing::warn!(id = self.id(), %error, "cannot kill what has survived init");
            }
        }
    }
}
