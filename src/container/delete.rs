//! Delete: an exec, or the container with all that is left of it.

use std::{sync::Arc, time::Duration};

use stasis_proc::Exec;
use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

use super::{ProcessEnd, Result, Shared, lock, pid_number};
use crate::{events::Event, mounts};

/// How long the ends of execs are waited for when their container is deleted: several times what
/// they may be held back for their last output.
const EXEC_LIMIT: Duration = Duration::from_secs(2);

impl Shared {
    /// Deletes an exec. Its id is taken until its output is read, or ten seconds have passed.
    ///
    /// # Errors
    /// If it is unknown or still runs.
    pub async fn delete_exec(&self, id: &str) -> Result<ProcessEnd> {
        let exec = self.exec_process(id)?;
        let exit = exec.delete().await?;
        // The exit may still be on its way through the actor.
        if exec.pid().is_some() {
            self.announce_exit(&exit);
        }
        // At once, so that no exit is announced between the two.
        let mut execs = lock(&self.execs);
        execs.remove(id);
        lock(&self.order).forget(id);
        drop(execs);
        Ok(ProcessEnd {
            pid: pid_number(exec.pid()),
            exit,
        })
    }

    /// Deletes the container: what the runtime keeps of it, its streams, its mounts. The exit is
    /// announced before the deletion.
    ///
    /// # Errors
    /// If it still runs, or something of it cannot be removed: then it can be tried again.
    pub async fn delete(&self) -> Result<ProcessEnd> {
        let exit = self.init.delete().await?;
        let rootfs = self.rootfs();
        spawn_blocking(move || mounts::unmount(&rootfs)).await??;
        let pid = pid_number(self.init.pid());
        self.announce_execs().await;
        if pid != 0 {
            self.announce_exit(&exit);
        }
        let free = lock(&self.order).flush();
        self.publish_exits(free);
        self.publish(Event::Deleted {
            pid,
            exit: exit.clone(),
        });
        Ok(ProcessEnd { pid, exit })
    }

    /// Announces the ends of the execs, which have ended with the container. They are told only
    /// when their last output was taken, or after a while.
    async fn announce_execs(&self) {
        let started = |exec: &&Arc<Exec>| exec.pid().is_some();
        let execs: Vec<_> = lock(&self.execs)
            .values()
            .filter(started)
            .cloned()
            .collect();
        let deadline = Instant::now() + EXEC_LIMIT;
        for exec in execs {
            match timeout_at(deadline, exec.wait()).await {
                Ok(exit) => self.announce_exit(&exit),
                Err(_) => tracing::warn!(
                    "exec {} of container {} has not ended with it",
                    exec.id(),
                    self.id
                ),
            }
        }
    }

    /// Where the root file system is mounted.
    pub(super) fn rootfs(&self) -> std::path::PathBuf {
        self.bundle.join("rootfs")
    }
}
