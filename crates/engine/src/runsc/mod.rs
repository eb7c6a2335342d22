//! gVisor's runsc, by its command line.
//!
//! The pid of a container is that of its sandbox, whose exit status is the container's; no
//! `runsc wait` is kept. Processes inside have pids of the sandbox's own kernel, so an exec has
//! two: the resident `runsc exec` on the host, and the one inside.
//!
//! A checkpoint always leaves the sandbox running: one that stops it loses the container when
//! the disk is full, and does not end a paused one at all. The caller ends it by
//! [`Engine::end_frozen`].
//!
//! Seen of runsc of 2024-07-29 and 2026-07-01.

mod connect;
mod deletion;
mod filestore;
mod ids;
mod kill;
#[cfg(test)]
mod tests;

use std::{
    fs,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use nix::unistd::Pid;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{PidfdFlags, pidfd_open, pidfd_send_signal},
};
use serde_json::Value;

use crate::{
    answer,
    command::{Call, Runtime},
    engine::{
        Checkpoint, CheckpointReport, Create, Engine, EngineState, EngineStatus, Exec, ExecPids,
        Restore, Signal, Target,
    },
    error::{Error, Result, chain},
    identity::{Identity, Kind},
    options::{CgroupMode, CheckpointOptions},
};

/// The engine for runsc.
#[derive(Debug)]
pub struct Runsc {
    runtime: Runtime,
    /// Where runsc keeps its state files.
    root: PathBuf,
    /// Whether the configuration leaves it to us where the filestore goes.
    places_filestore: bool,
}

impl Runsc {
    /// A `create` or `restore`, which both make a sandbox.
    fn making<'a>(&self, call: Call<'a>, bundle: &Path, pid_file: &Path) -> Call<'a> {
        let call = if self.places_filestore {
            call.global(filestore::flag(bundle))
        } else {
            call
        };
        call.option("--bundle", bundle)
            .option("--pid-file", pid_file)
    }

    async fn is_created(&self, id: &str) -> bool {
        self.state(id)
            .await
            .is_ok_and(|state| state.status == EngineStatus::Created)
    }
}

#[async_trait]
impl Engine for Runsc {
    fn identity(&self) -> &Identity {
        &self.runtime.identity
    }

    fn prepare_spec(&self, _bundle: &Path, _spec: &mut Value) -> Result<bool> {
        Ok(false)
    }

    fn check_options(&self, options: &CheckpointOptions) -> Result<()> {
        // File locks and terminals live in the sandbox's own kernel, which saves them.
        let CheckpointOptions {
            tcp_established,
            ext_unix_sk,
            shell_job: _,
            file_locks: _,
            cgroup_mode,
            empty_namespaces,
        } = options;
        let option = if *tcp_established {
            "tcp_established"
        } else if *ext_unix_sk {
            "ext_unix_sk"
        } else if *cgroup_mode != CgroupMode::Ignore {
            "cgroup_mode"
        } else if !empty_namespaces.is_empty() {
            "empty_namespaces"
        } else {
            return Ok(());
        };
        let advice = "it is an option of CRIU; leave it unset for runsc";
        Err(self
            .runtime
            .unsupported(format!("the checkpoint option {option}"), advice))
    }

    async fn create(&self, id: &str, request: Create) -> Result<Pid> {
        self.check_id(id)?;
        let call = self
            .runtime
            .call("create", self.runtime.timeouts.create)
            .stdio(request.stdio);
        self.making(call, &request.bundle, &request.pid_file)
            .arg(id)
            .run()
            .await?;
        self.runtime.pid("create", &request.pid_file)
    }

    async fn start(&self, id: &str) -> Result<()> {
        self.runtime.start(id).await
    }

    async fn exec(&self, id: &str, request: Exec) -> Result<ExecPids> {
        let mut inner = request.pid_file.clone().into_os_string();
        inner.push(".internal");
        let inner = PathBuf::from(inner);
        let call = self
            .runtime
            .call("exec", self.runtime.timeouts.exec)
            .stdio(request.stdio);
        let call = call
            .option("--process", &request.process_file)
            .arg("--detach");
        let call = call.option("--pid-file", &request.pid_file);
        call.option("--internal-pid-file", &inner)
            .arg(id)
            .run()
            .await?;
        let host = self.runtime.pid("exec", &request.pid_file)?;
        let pids =
            answer::pid_file(Kind::Runsc, "exec", &inner).map(|inner| ExecPids { host, inner });
        // The caller knows, and removes, his own file only.
        if let Err(error) = fs::remove_file(&inner) {
            tracing::warn!("cannot remove the pid file {}: {error}", inner.display());
        }
        pids
    }

    async fn kill(&self, id: &str, signal: Signal, target: Target) -> Result<()> {
        kill::kill(self, id, signal, target).await
    }

    async fn delete(&self, id: &str, force: bool) -> Result<()> {
        if self.would_reach_another(id)? {
            return Ok(());
        }
        self.runtime.delete(id, force, || self.knows(id)).await
    }

    async fn state(&self, id: &str) -> Result<EngineState> {
        // runsc asks a created or paused sandbox nothing, and so does not see that it died; and
        // one that nobody has reaped yet it takes for alive.
        self.runtime.state(id, || self.knows(id)).await.map(checked)
    }

    async fn processes(&self, id: &str) -> Result<Vec<i32>> {
        match self.runtime.processes(id).await {
            // runsc refuses: nothing runs in there yet.
            Err(Error::Failed { .. }) if self.is_created(id).await => Ok(Vec::new()),
            result => result,
        }
    }

    async fn pause(&self, id: &str, _init: Pid) -> Result<()> {
        self.runtime.pause(id).await
    }

    async fn resume(&self, id: &str) -> Result<()> {
        self.runtime.resume(id).await
    }

    async fn checkpoint(&self, id: &str, request: &Checkpoint) -> Result<CheckpointReport> {
        let call = self
            .runtime
            .call("checkpoint", self.runtime.timeouts.checkpoint);
        let call = call
            .option("--image-path", &request.image)
            .arg("--leave-running");
        // The default since 2026; the compression that was it in 2024 takes five times as long.
        call.arg("--compression=none").arg(id).run().await?;
        Ok(CheckpointReport::default())
    }

    async fn restore(&self, id: &str, request: Restore) -> Result<Pid> {
        // Else what is removed after the failure would be somebody else's container.
        if self.knows(id)? {
            return Err(answer::known_already(Kind::Runsc, "restore"));
        }
        self.check_id(id)?;
        let call = self
            .runtime
            .call("restore", self.runtime.timeouts.restore)
            .given_up_by(request.given_up)
            .stdio(request.stdio);
        let call = self.making(call.arg("--detach"), &request.bundle, &request.pid_file);
        let restored = match call
            .option("--image-path", &request.image)
            .arg(id)
            .run()
            .await
        {
            Ok(_) => self.runtime.pid("restore", &request.pid_file),
            Err(error) => Err(error),
        };
        if restored.is_err()
            && let Err(error) = self.delete(id, true).await
        {
            tracing::warn!(
                "cannot remove what is left of a failed restore: {}",
                chain(&error)
            );
        }
        restored
    }

    async fn end_frozen(&self, _id: &str, init: Pid, pidfd: BorrowedFd<'_>) -> Result<()> {
        match pidfd_send_signal(pidfd, rustix::process::Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(Error::io("kill the sandbox", format!("/proc/{init}"))(
                error.into(),
            )),
        }
    }

    async fn features(&self) -> Result<Option<Value>> {
        self.runtime.features().await
    }
}

/// The state, unless the sandbox that it speaks of has ended.
fn checked(state: EngineState) -> EngineState {
    match state.pid {
        Some(pid) if has_ended(pid) => EngineState {
            status: EngineStatus::Stopped,
            pid: None,
        },
        _ => state,
    }
}

/// Whether a process has gone, or is a zombie: runsc takes one for a sandbox that runs.
fn has_ended(pid: Pid) -> bool {
    let Some(pid) = rustix::process::Pid::from_raw(pid.as_raw()) else {
        return true;
    };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => {
            let mut ended = [PollFd::new(&pidfd, PollFlags::IN)];
            poll(&mut ended, Some(&Timespec::default())) == Ok(1)
        }
        Err(errno) => errno == rustix::io::Errno::SRCH,
    }
}
