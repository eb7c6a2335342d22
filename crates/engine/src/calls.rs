//! What the calls of an [`Engine`](crate::Engine) take and give.

use std::{os::fd::OwnedFd, path::PathBuf};

use nix::unistd::Pid;
use serde::Deserialize;
use tokio::sync::oneshot;

use crate::options::CheckpointOptions;

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

/// What [`Engine::create`](crate::Engine::create) needs.
#[derive(Debug)]
pub struct Create {
    /// The OCI bundle.
    pub bundle: PathBuf,
    /// Where the runtime writes the pid.
    pub pid_file: PathBuf,
    /// The streams of the container's init process.
    pub stdio: Stdio,
}

/// What [`Engine::exec`](crate::Engine::exec) needs.
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
    pub const KILL: Self = Self(nix::sys::signal::Signal::SIGKILL as i32);

    /// The highest signal number of Linux (`SIGRTMAX` of the kernel, signal(7)).
    pub const MAX: u32 = 64;

    /// Checks that `number` is a signal of this kernel, 1 to 64.
    #[must_use]
    pub fn new(number: u32) -> Option<Self> {
        let known = (1..=Self::MAX).contains(&number).then_some(number)?;
        known.try_into().ok().map(Self)
    }

    /// The number.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0
    }
}

/// Whom [`Engine::kill`](crate::Engine::kill) signals.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
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

/// What [`Engine::checkpoint`](crate::Engine::checkpoint) needs.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// The image directory. It exists and is empty.
    pub image: PathBuf,
    /// Where CRIU's log and statistics go. It exists, and no other container's call uses it: the
    /// log, which tells why a dump failed, always has the same name. runsc has no use for it.
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

/// What [`Engine::restore`](crate::Engine::restore) needs.
#[derive(Debug)]
pub struct Restore {
    /// The OCI bundle of the new container.
    pub bundle: PathBuf,
    /// Where the runtime writes the pid.
    pub pid_file: PathBuf,
    /// The image directory.
    pub image: PathBuf,
    /// Where CRIU's log goes, as in [`Checkpoint::work`].
    pub work: PathBuf,
    /// The streams of the restored init process, in place of those of the dumped one.
    pub stdio: Stdio,
    /// The options that the dump was made with, which the restore needs again.
    pub options: CheckpointOptions,
    /// Where it can be given up: when something is sent, the runtime is killed, and the call fails
    /// as it does otherwise, with nothing left. `None` where nobody would.
    pub given_up: Option<oneshot::Receiver<()>>,
}

/// What came of a checkpoint, beside the image.
#[derive(Debug, Clone, Default)]
pub struct CheckpointReport {
    /// CRIU's version, where CRIU made the image.
    pub criu_version: Option<stasis_criu::Version>,
}
