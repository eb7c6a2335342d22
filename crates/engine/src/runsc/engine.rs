//! The verbs of [`Engine`].

use std::{
    fs,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use nix::unistd::Pid;
use rustix::process::pidfd_send_signal;
use serde_json::Value;
use stasis_criu::options::CgroupMode;
use stasis_linux::chain;

use super::{handle::Runsc, ids, kill};
use crate::{
    answer,
    calls::{
        Checkpoint, CheckpointReport, Create, EngineState, EngineStatus, Exec, ExecPids, Restore,
        Signal, Target,
    },
    engine::Engine,
    error::{Error, Result},
    identity::{Identity, Kind},
    options::CheckpointOptions,
};

impl Runsc {
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

    async fn kill(
        &self,
        id: &str,
        signal: Signal,
        target: Target,
        pidfd: BorrowedFd<'_>,
    ) -> Result<()> {
        kill::kill(self, id, signal, target, pidfd).await
    }

    async fn delete(&self, id: &str, force: bool) -> Result<()> {
        Self::delete(self, id, force).await
    }

    async fn state(&self, id: &str) -> Result<EngineState> {
        Self::state(self, id).await
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
        if ids::knows(&self.root, id)? {
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
