//! runc and crun, by their command lines, which differ little: what does is told by [`Kind`] and
//! [`Version`]. Checkpoint and restore, which go through CRIU, are in [`images`].
//!
//! Seen of runc 1.1.15 and 1.3.6, crun 1.21 and 1.28.

mod connect;
mod images;
mod settle;
#[cfg(test)]
mod tests;

use std::{
    fs, io,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use nix::{errno::Errno, unistd::Pid};
use rustix::process::pidfd_send_signal;
use serde_json::Value;

use crate::{
    answer,
    cgroup::Freezer,
    command::Runtime,
    criu::config,
    engine::{
        Checkpoint, CheckpointReport, Create, Engine, EngineState, EngineStatus, Exec, ExecPids,
        Restore, Signal, Target,
    },
    error::{Error, Result},
    identity::{Identity, Kind},
    mountinfo,
    options::CheckpointOptions,
    sys,
};

/// Where crun mounts the root file system for CRIU, below the bundle; runc has the same name in
/// its state directory.
const CRUN_ROOT_MOUNT: &str = "criu-root";

/// The engine for runc and crun.
#[derive(Debug)]
pub(crate) struct Runc {
    runtime: Runtime,
    /// Where the runtime keeps a directory for each container.
    root: PathBuf,
    bundle: PathBuf,
    systemd_cgroup: bool,
    no_pivot_root: bool,
    no_new_keyring: bool,
}

impl Runc {
    /// Whether the runtime has a directory of the container.
    fn knows(&self, id: &str) -> Result<bool> {
        answer::exists(&self.root.join(id))
    }

    /// Unmounts the root file system from where the runtimes mount it for a restore. It stays
    /// there when they are killed, and whoever then removes the directory, runc itself to begin
    /// with, removes the container's files through it.
    fn detach_root(&self, id: &str) -> Result<()> {
        let in_bundle = self.bundle.join(CRUN_ROOT_MOUNT);
        mountinfo::detach_below(&[&self.root.join(id), &in_bundle])?;
        // It is hardly ever there; where somebody has put something in it, it is not crun's.
        let _ = fs::remove_dir(&in_bundle);
        Ok(())
    }

    fn refuse_known(&self, verb: &'static str, id: &str) -> Result<()> {
        if self.knows(id)? {
            return Err(answer::known_already(self.runtime.identity.kind, verb));
        }
        Ok(())
    }

    /// The runtimes say in words only why a signal cannot be sent, so the state tells.
    async fn refused(&self, id: &str, error: Error) -> Error {
        match self.state(id).await {
            Ok(EngineState {
                status: EngineStatus::Stopped,
                ..
            })
            | Err(Error::NoSuchContainer { .. }) => Error::NoSuchProcess { id: id.to_owned() },
            Ok(_) => error,
            Err(error) => error,
        }
    }
}

#[async_trait]
impl Engine for Runc {
    fn identity(&self) -> &Identity {
        &self.runtime.identity
    }

    fn prepare_spec(&self, bundle: &Path, spec: &mut Value) -> Result<bool> {
        config::adopt(bundle, spec)
    }

    fn check_options(&self, options: &CheckpointOptions) -> Result<()> {
        // `runc --empty-ns` takes this name only.
        let takes = |name: &String| self.runtime.identity.kind == Kind::Runc && name == "network";
        let Some(name) = options.empty_namespaces.iter().find(|name| !takes(name)) else {
            return Ok(());
        };
        let advice = match self.runtime.identity.kind {
            Kind::Runc => "it can leave the namespace \"network\" empty, and no other",
            Kind::Crun | Kind::Runsc => "leave empty_namespaces unset",
        };
        Err(self.runtime.unsupported(
            format!("the checkpoint option empty_namespaces = [{name:?}]"),
            advice,
        ))
    }

    async fn create(&self, id: &str, request: Create) -> Result<Pid> {
        let call = self
            .runtime
            .call("create", self.runtime.timeouts.create)
            .stdio(request.stdio);
        call.option("--bundle", request.bundle)
            .option("--pid-file", &request.pid_file)
            .flag("--no-pivot", self.no_pivot_root)
            .flag("--no-new-keyring", self.no_new_keyring)
            .arg(id)
            .run()
            .await?;
        self.runtime.pid("create", &request.pid_file)
    }

    async fn start(&self, id: &str) -> Result<()> {
        self.runtime.start(id).await
    }

    async fn exec(&self, id: &str, request: Exec) -> Result<ExecPids> {
        let call = self
            .runtime
            .call("exec", self.runtime.timeouts.exec)
            .stdio(request.stdio);
        call.option("--process", request.process_file)
            .arg("--detach")
            .option("--pid-file", &request.pid_file)
            .arg(id)
            .run()
            .await?;
        let host = self.runtime.pid("exec", &request.pid_file)?;
        Ok(ExecPids {
            host,
            inner: host.as_raw(),
        })
    }

    async fn kill(&self, id: &str, signal: Signal, target: Target) -> Result<()> {
        let (init, all) = match target {
            Target::Init(init) => (init, false),
            Target::All(init) => (init, true),
            // The runtimes signal no other process than init.
            Target::Exec(pids) => {
                return sys::kill(pids.host, signal.number()).map_err(|errno| match errno {
                    Errno::ESRCH => Error::NoSuchProcess { id: id.to_owned() },
                    errno => Error::io("signal", format!("/proc/{}", pids.host))(errno.into()),
                });
            }
        };
        let call = self
            .runtime
            .call("kill", self.runtime.timeouts.kill)
            .flag("--all", all);
        match call.arg(id).arg(signal.number().to_string()).run().await {
            Err(error @ Error::Failed { .. }) => return Err(self.refused(id, error).await),
            result => result.map(drop)?,
        }
        // crun leaves a paused container frozen, and in cgroup version 1 the signal pending.
        if self.runtime.identity.kind == Kind::Crun
            && signal == Signal::KILL
            && let Ok(Some(freezer)) = Freezer::of(init)
            && let Err(error) = freezer.thaw()
        {
            // It may have gone in the meantime.
            tracing::debug!(%error, "a killed container was not thawed");
        }
        Ok(())
    }

    async fn delete(&self, id: &str, force: bool) -> Result<()> {
        self.detach_root(id)?;
        self.runtime.delete(id, force, || self.knows(id)).await
    }

    async fn state(&self, id: &str) -> Result<EngineState> {
        self.runtime.state(id, || self.knows(id)).await
    }

    async fn processes(&self, id: &str) -> Result<Vec<i32>> {
        self.runtime.processes(id).await
    }

    async fn pause(&self, id: &str, init: Pid) -> Result<()> {
        settle::pause(self, id, init).await
    }

    async fn resume(&self, id: &str) -> Result<()> {
        self.runtime.resume(id).await
    }

    async fn checkpoint(&self, id: &str, request: &Checkpoint) -> Result<CheckpointReport> {
        images::checkpoint(self, id, request).await
    }

    async fn restore(&self, id: &str, request: Restore) -> Result<Pid> {
        images::restore(self, id, request).await
    }

    async fn end_frozen(&self, _id: &str, init: Pid, pidfd: BorrowedFd<'_>) -> Result<()> {
        match Freezer::of(init) {
            Ok(Some(freezer)) => freezer.end(),
            Ok(None) => match pidfd_send_signal(pidfd, rustix::process::Signal::KILL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
                Err(error) => Err(Error::io("kill", format!("/proc/{init}"))(error.into())),
            },
            // It ended by itself, and with init all processes of its PID namespace.
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn features(&self) -> Result<Option<Value>> {
        self.runtime.features().await
    }
}
