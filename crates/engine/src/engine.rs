//! The trait [`Engine`]; the types of its calls are in [`calls`](crate::calls).
//!
//! Contract of every call: it ends before its deadline or fails with [`crate::Error::Deadline`]
//! after the runtime's process group was killed; a failed call leaves the container in the state
//! that the runtime reports, which the caller may ask for with [`Engine::state`]. Calls on one
//! container may overlap (`kill` and `processes` while a dump runs); an engine keeps no state of
//! its own that a second shim process could not find again.

use std::{fmt, os::fd::BorrowedFd, path::Path};

use async_trait::async_trait;
use nix::unistd::Pid;

use crate::{
    calls::{
        Checkpoint, CheckpointReport, Create, EngineState, Exec, ExecPids, Restore, Signal, Target,
    },
    error::Result,
    identity::{Identity, Kind, RuntimeVersion},
    options::CheckpointOptions,
};

/// What the process objects of a shim need from an OCI runtime.
#[async_trait]
pub trait Engine: fmt::Debug + Send + Sync {
    /// The runtime's binary, as resolved when the engine was connected, and what it said.
    fn identity(&self) -> &Identity;

    /// Which runtime this is.
    fn kind(&self) -> Kind {
        self.identity().kind
    }

    /// Which release of it.
    fn version(&self) -> &RuntimeVersion {
        &self.identity().version
    }

    /// Its binary.
    fn binary(&self) -> &Path {
        &self.identity().binary
    }

    /// Makes what the engine needs in a spec before [`Engine::create`]: for CRIU-backed engines
    /// the annotation that names our CRIU configuration file, for instance. Returns whether the
    /// spec was changed and has to be written back.
    ///
    /// # Errors
    /// If a file that the spec names (the user's own CRIU configuration) cannot be read.
    fn prepare_spec(&self, bundle: &Path, spec: &mut serde_json::Value) -> Result<bool>;

    /// Refuses by name what this engine cannot honour in a checkpoint. Nothing is touched.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`], naming the option and what to do about it.
    fn check_options(&self, options: &CheckpointOptions) -> Result<()>;

    /// Makes the container and its init process, which waits for [`Engine::start`].
    /// Gives the pid of the process whose exit is the container's: init, or runsc's sandbox.
    ///
    /// # Errors
    /// If the runtime refuses. What it made is removed again by the caller's forced delete.
    async fn create(&self, id: &str, request: Create) -> Result<Pid>;

    /// Lets a created container's init run.
    ///
    /// # Errors
    /// If the runtime refuses.
    async fn start(&self, id: &str) -> Result<()>;

    /// Starts one more process in a running container and leaves it running.
    ///
    /// # Errors
    /// If the runtime refuses, or the program cannot be started.
    async fn exec(&self, id: &str, request: Exec) -> Result<ExecPids>;

    /// Sends a signal to the process of `pidfd`, which `target` names, and to what belongs to it.
    /// [`Target::Init`] and [`Target::All`] work for every state in which the
    /// container has processes: runsc refuses to signal a created or paused container, and its
    /// engine then ends the sandbox where the signal is SIGKILL.
    ///
    /// # Errors
    /// [`crate::Error::NoSuchProcess`] if there is nothing left to signal.
    async fn kill(
        &self,
        id: &str,
        signal: Signal,
        target: Target,
        pidfd: BorrowedFd<'_>,
    ) -> Result<()>;

    /// Removes what the runtime keeps of a container, its processes included if `force`.
    /// A container that the runtime does not know counts as deleted.
    ///
    /// # Errors
    /// If the runtime refuses.
    async fn delete(&self, id: &str, force: bool) -> Result<()>;

    /// Asks the runtime for the container's state.
    ///
    /// # Errors
    /// [`crate::Error::NoSuchContainer`] if the runtime does not know it.
    async fn state(&self, id: &str) -> Result<EngineState>;

    /// The pids of a container's processes: the host's, or for runsc the sandbox's own.
    ///
    /// # Errors
    /// If the runtime refuses.
    async fn processes(&self, id: &str) -> Result<Vec<i32>>;

    /// Freezes every process of the container, and returns when they are frozen. `init` is the
    /// pid that [`Engine::create`] gave.
    ///
    /// # Errors
    /// If the runtime refuses, or a process cannot be frozen before the deadline. The container
    /// runs on.
    async fn pause(&self, id: &str, init: Pid) -> Result<()>;

    /// Thaws a paused container.
    ///
    /// # Errors
    /// If the runtime refuses.
    async fn resume(&self, id: &str) -> Result<()>;

    /// Dumps a running or paused container into `request.image`, which exists and is empty,
    /// and leaves the container in the state it was in, unless it
    /// [`EndsByCriu`](crate::Afterwards::EndsByCriu).
    ///
    /// # Errors
    /// [`crate::Error::Criu`] with the cause from CRIU's log and the log's path, or the runtime's
    /// own error; the container is then as it came. [`crate::Error::Left`] if it is not. What was
    /// written is left for the caller to remove.
    async fn checkpoint(&self, id: &str, request: &Checkpoint) -> Result<CheckpointReport>;

    /// Makes a container out of a checkpoint image; it runs when this returns. Gives the pid as
    /// [`Engine::create`] does.
    ///
    /// # Errors
    /// As [`Engine::checkpoint`]. Whatever the failed restore left in the runtime, in cgroups
    /// and of processes is removed before the error is returned.
    async fn restore(&self, id: &str, request: Restore) -> Result<Pid>;

    /// Ends a frozen container whose image is sealed, without letting it run again: SIGKILL to
    /// the sandbox (runsc), or to every process of its cgroup before the thaw (runc, crun).
    /// Returns when the signals are sent and the cgroup is thawed; the exit is seen by whoever
    /// waits for `init`.
    ///
    /// # Errors
    /// If the cgroup cannot be found or written.
    async fn end_frozen(&self, id: &str, init: Pid, pidfd: BorrowedFd<'_>) -> Result<()>;

    /// The runtime's OCI features document (`runc features`), or `None` from a release that has
    /// no such command.
    ///
    /// # Errors
    /// If the runtime fails or prints no JSON.
    async fn features(&self) -> Result<Option<serde_json::Value>>;
}
