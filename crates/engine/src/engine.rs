//! The trait [`Engine`] and the types of its calls.
//!
//! Contract of every call: it ends before its deadline or fails with [`Error::Deadline`] after the
//! runtime's process group was killed; a failed call leaves the container in the state that the
//! runtime reports, which the caller may ask for with [`Engine::state`]. Calls on one container
//! may overlap (`kill` and `processes` while a dump runs); an engine keeps no state of its own
//! that a second shim process could not find again.

use std::{
    fmt,
    os::fd::{BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use nix::unistd::Pid;

use crate::{
    error::Result,
    identify::{Kind, Version},
    options::CheckpointOptions,
};

/// What the process objects of a shim need from an OCI runtime.
#[async_trait]
pub trait Engine: fmt::Debug + Send + Sync {
    /// Which runtime this is.
    fn kind(&self) -> Kind;

    /// What `--version` said.
    fn version(&self) -> &Version;

    /// The runtime's binary, as resolved when the engine was connected.
    fn binary(&self) -> &Path;

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

    /// Sends a signal. [`Target::Init`] and [`Target::All`] work for every state in which the
    /// container has processes: runsc refuses to signal a created or paused container, and its
    /// engine then ends the sandbox where the signal is SIGKILL.
    ///
    /// # Errors
    /// [`crate::Error::NoSuchProcess`] if there is nothing left to signal.
    async fn kill(&self, id: &str, signal: Signal, target: Target) -> Result<()>;

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

    /// Freezes every process of the container.
    ///
    /// # Errors
    /// If the runtime refuses.
    async fn pause(&self, id: &str) -> Result<()>;

    /// Thaws a paused container.
    ///
    /// # Errors
    /// If the runtime refuses.
    async fn resume(&self, id: &str) -> Result<()>;

    /// Captures a running or paused container into `request.image`, which exists and is empty,
    /// and leaves the container in the state it was in, unless it [`Afterwards::EndsByCriu`].
    ///
    /// # Errors
    /// [`crate::Error::Criu`] with the cause from CRIU's log and the log's path, or the runtime's
    /// own error. What was written is left for the caller to remove.
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

/// The three standard streams of a process; one that is not set is `/dev/null`.
#[derive(Debug, Default)]
pub struct Stdio {
    /// What the process reads.
    pub stdin: Option<OwnedFd>,
    /// Where its output goes.
    pub stdout: Option<OwnedFd>,
    /// Where its errors go.
    pub stderr: Option<OwnedFd>,
}

/// What [`Engine::create`] needs.
#[derive(Debug)]
pub struct Create {
    /// The OCI bundle.
    pub bundle: PathBuf,
    /// Where the runtime writes the pid.
    pub pid_file: PathBuf,
    /// The streams of the container's init process.
    pub stdio: Stdio,
}

/// What [`Engine::exec`] needs.
#[derive(Debug)]
pub struct Exec {
    /// An OCI process document (the `process` part of a spec).
    pub process_file: PathBuf,
    /// Where the runtime writes the pid on the host.
    pub pid_file: PathBuf,
    /// The streams of the process.
    pub stdio: Stdio,
}

/// The two pids of an exec process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecPids {
    /// The process on the host whose exit status is the exec's. With runsc it is the resident
    /// `runsc exec` helper.
    pub host: Pid,
    /// The pid by which the engine lists and signals it: the same, or with runsc the one inside
    /// the sandbox.
    pub inner: i32,
}

/// A signal number as the client gave it, real-time signals included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(i32);

impl Signal {
    /// SIGKILL.
    pub const KILL: Self = Self(libc_sigkill());

    /// The highest signal number of Linux (`SIGRTMAX` of the kernel, signal(7)).
    pub const MAX: u32 = 64;

    /// Checks that `number` is a signal of this kernel, 1 to 64.
    #[must_use]
    pub fn new(number: u32) -> Option<Self> {
        (1..=Self::MAX)
            .contains(&number)
            .then(|| i32::try_from(number).ok().map(Self))
            .flatten()
    }

    /// The number.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0
    }
}

const fn libc_sigkill() -> i32 {
    nix::sys::signal::Signal::SIGKILL as i32
}

/// Whom [`Engine::kill`] signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The container's init process, whose pid on the host is given.
    Init(Pid),
    /// Every process of the container, whose init has the given pid on the host.
    All(Pid),
    /// One exec process.
    Exec(ExecPids),
}

/// What the runtime says of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineState {
    /// Its status.
    pub status: EngineStatus,
    /// The pid of init or of the sandbox; `None` when it has ended.
    pub pid: Option<Pid>,
}

/// The statuses of the OCI runtime specification, and `paused`, which all three runtimes add.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineStatus {
    /// Being created.
    Creating,
    /// Made, and its program not started.
    Created,
    /// Running.
    Running,
    /// Frozen.
    Paused,
    /// Its init has ended.
    Stopped,
}

/// What [`Engine::checkpoint`] needs.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// The image directory. It exists and is empty.
    pub image: PathBuf,
    /// Where CRIU's log and statistics go. It exists. runsc has no use for it.
    pub work: PathBuf,
    /// The bundle of the container, where its CRIU configuration file is.
    pub bundle: PathBuf,
    /// The resolved options.
    pub options: CheckpointOptions,
    /// What becomes of the container.
    pub afterwards: Afterwards,
}

/// What becomes of a container after its dump.
///
/// Whether it is frozen is for the caller to say, who has frozen it: cgroup v1 says FREEZING for
/// a while, and crun calls that running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Afterwards {
    /// It goes on as it came: frozen for the dump if it runs, and thawed again.
    GoesOn,
    /// The caller has frozen it, and it stays so.
    StaysFrozen,
    /// CRIU ends it when the dump is whole. Only for established TCP connections, which stay
    /// silent only if CRIU itself kills their owners. The runtime has then removed the container.
    EndsByCriu {
        /// Whether the caller has frozen it; it then stays so if the dump fails.
        frozen: bool,
    },
}

impl Afterwards {
    /// Whether CRIU ends the container.
    #[must_use]
    pub fn ends_by_criu(self) -> bool {
        matches!(self, Self::EndsByCriu { .. })
    }

    /// Whether the caller has frozen the container.
    pub(crate) fn found_frozen(self) -> bool {
        match self {
            Self::GoesOn => false,
            Self::StaysFrozen => true,
            Self::EndsByCriu { frozen } => frozen,
        }
    }
}

/// What [`Engine::restore`] needs.
#[derive(Debug)]
pub struct Restore {
    /// The OCI bundle of the new container.
    pub bundle: PathBuf,
    /// Where the runtime writes the pid.
    pub pid_file: PathBuf,
    /// The image directory.
    pub image: PathBuf,
    /// Where CRIU's log goes. It exists.
    pub work: PathBuf,
    /// The streams of the restored init process, in place of those of the dumped one.
    pub stdio: Stdio,
    /// The options that the dump was made with, which the restore needs again.
    pub options: CheckpointOptions,
}

/// What came of a checkpoint, beside the image.
#[derive(Debug, Clone, Default)]
pub struct CheckpointReport {
    /// The phases inside the engine's call that the engine can tell apart, in order.
    pub phases: Vec<Phase>,
    /// CRIU's version as `MAJOR.MINOR.SUBLEVEL`, where CRIU made the image.
    pub criu_version: Option<String>,
}

/// One phase of a checkpoint or restore and how long it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phase {
    /// What was done, in one word.
    pub name: &'static str,
    /// How long it took.
    pub took: Duration,
}
