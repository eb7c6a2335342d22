//! The verbs of [`Engine`]: the short ones here, the others in files of their own.

use std::{os::fd::BorrowedFd, path::Path};

use async_trait::async_trait;
use nix::unistd::Pid;
use serde_json::Value;

use super::{freeze, handle::Runc, images, kill};
use crate::{
    calls::{
        Checkpoint, CheckpointReport, Create, EngineState, Exec, ExecPids, Restore, Signal, Target,
    },
    criu::config,
    engine::Engine,
    error::Result,
    identity::{Identity, Kind},
    options::CheckpointOptions,
};

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
        self.runtime.processes(id).await
    }

    async fn pause(&self, id: &str, init: Pid) -> Result<()> {
        freeze::pause(self, id, init).await
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
        kill::end_frozen(init, pidfd)
    }

    async fn features(&self) -> Result<Option<Value>> {
        self.runtime.features().await
    }
}
