//! Why an engine's call failed.

use std::{io, path::PathBuf, time::Duration};

use nix::errno::Errno;
use stasis_criu::Diagnosis;
use stasis_linux::{cgroup::CgroupError, mountinfo::DetachError};

use crate::{criu::words, identity::Kind, manifest};

/// What an engine's call gives.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an engine's call failed. A message says the step and the thing; its cause is the source.
#[derive(Debug, thiserror::Error)]
#[expect(
    clippy::error_impl_error,
    reason = "the one error of this crate, as in `std::io`"
)]
pub enum Error {
    /// The runtime's binary is not there, not executable, or does not say what it is.
    #[error("cannot run the runtime binary {binary}: install it, or name another with binary_name")]
    Binary {
        /// The name or path that was looked for.
        binary: String,
        /// What the system said.
        source: io::Error,
    },
    /// The binary runs, but it is none of the runtimes that this crate drives.
    #[error("{binary} is neither runsc, runc nor crun: `{binary} --version` printed {output:?}")]
    UnknownRuntime {
        /// The path of the binary.
        binary: PathBuf,
        /// The first line that it printed.
        output: String,
    },
    /// The call took too long, and the runtime was killed.
    #[error("{engine} {verb} did not end within {after:?} and was killed ([timeouts] sets this)")]
    Deadline {
        /// The runtime.
        engine: Kind,
        /// Its command.
        verb: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// The runtime failed; the message is its own last error line.
    #[error("{engine} {verb} failed: {message}")]
    Failed {
        /// The runtime.
        engine: Kind,
        /// Its command.
        verb: &'static str,
        /// Its last error line.
        message: String,
    },
    /// CRIU failed beneath the runtime.
    #[error("{engine} {verb} failed: {}", words::told(diagnosis))]
    Criu {
        /// The runtime.
        engine: Kind,
        /// Its command.
        verb: &'static str,
        /// Why, the way out, and the kept log.
        diagnosis: Diagnosis,
    },
    /// A checkpoint left the container in another state than that in which it came.
    #[error("container {id} is {now} after this checkpoint and was not before: {advice}",
        now = if *.frozen { "paused" } else { "running" },
        advice = if *.frozen { "resume it" } else { "pause it again" })]
    Left {
        /// The container.
        id: String,
        /// Whether it is frozen now, and ran before; else it runs now, and was frozen.
        frozen: bool,
        /// Why the checkpoint failed, or the way back after one that did not.
        source: Box<Error>,
    },
    /// The runtime does not know the container.
    #[error("{engine} does not know container {id}")]
    NoSuchContainer {
        /// The runtime.
        engine: Kind,
        /// The container.
        id: String,
    },
    /// There is no process left to signal.
    #[error("container {id} has no such process: it has already ended")]
    NoSuchProcess {
        /// The container.
        id: String,
    },
    /// The engine cannot do what was asked, in any state.
    #[error("{engine} {version} does not support {what}: {advice}")]
    Unsupported {
        /// The runtime.
        engine: Kind,
        /// Its version.
        version: String,
        /// The option or call.
        what: String,
        /// What to do about it.
        advice: String,
    },
    /// The runtime answered something that cannot be understood.
    #[error("{engine} {verb} answered {output:?}, which is not what it documents")]
    Answer {
        /// The runtime.
        engine: Kind,
        /// Its command.
        verb: &'static str,
        /// The beginning of what it printed.
        output: String,
    },
    /// A file could not be read, written, made or removed.
    #[error("cannot {step} {path}", path = path.display())]
    Io {
        /// What was done to the file.
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The checkpoint image is broken, foreign or not there.
    #[error(transparent)]
    Image(#[from] manifest::Error),
}

impl Error {
    /// What came of starting `binary`: its own fault, or the system's, which may be short of
    /// descriptors, processes or memory.
    pub(crate) fn run(binary: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let binary = binary.into();
        move |source| {
            let missing = [io::ErrorKind::NotFound, io::ErrorKind::PermissionDenied];
            let no_program = source.raw_os_error() == Some(Errno::ENOEXEC as i32);
            if no_program || missing.contains(&source.kind()) {
                Self::Binary { binary, source }
            } else {
                Self::io("run", binary)(source)
            }
        }
    }

    /// For `map_err`: an I/O error together with what was being done to which file.
    pub fn io(step: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { step, path, source }
    }
}

impl From<CgroupError> for Error {
    fn from(CgroupError { step, path, source }: CgroupError) -> Self {
        Self::Io { step, path, source }
    }
}

impl From<DetachError> for Error {
    fn from(error: DetachError) -> Self {
        match error {
            DetachError::List(source) => Self::io("read", "/proc/thread-self/mountinfo")(source),
            DetachError::Unmount { point, source } => Self::io("unmount", point)(source),
        }
    }
}
