//! Why a request about a container failed.

use stasis_proc::ErrorKind;

use crate::{bundle::RecordError, checkpoint, config, mounts, spec};

/// Why a request about a container failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No container has that id.
    #[error("task {0} not found in this shim")]
    UnknownTask(String),
    /// The container has no exec with that id.
    #[error("exec {exec} of task {task} not found")]
    UnknownExec {
        /// The container.
        task: String,
        /// The exec.
        exec: String,
    },
    /// The id is taken.
    #[error("{what} {id} already exists: delete it first, or use another id")]
    Exists {
        /// "task" or "exec".
        what: &'static str,
        /// The id.
        id: String,
    },
    /// The container is being made; nothing else can be done with it.
    #[error("task {0} is still being created")]
    Creating(String),
    /// The request itself makes no sense.
    #[error("invalid {what} {value:?}: {wanted}")]
    Invalid {
        /// The part of the request.
        what: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        wanted: &'static str,
    },
    /// The container's task inside the shim has ended, by deletion or by a fault.
    #[error("task {0} is gone")]
    Gone(String),
    /// The record for the `delete` action cannot be written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The configuration or the runtime options.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The bundle's spec.
    #[error(transparent)]
    Spec(#[from] spec::Error),
    /// The root file system.
    #[error(transparent)]
    Mounts(#[from] mounts::Error),
    /// The work on the root file system's mounts panicked.
    #[error("a fault of the shim while it worked on the root file system")]
    Fault(#[from] tokio::task::JoinError),
    /// A process object or, beneath it, the engine.
    #[error(transparent)]
    Process(#[from] stasis_proc::Error),
    /// A checkpoint or the check of an image.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
}

/// What a request about a container gives.
pub type Result<T> = std::result::Result<T, Error>;

impl From<stasis_engine::Error> for Error {
    fn from(error: stasis_engine::Error) -> Self {
        Self::Process(error.into())
    }
}

impl Error {
    /// What kind of answer this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownTask(_) | Self::UnknownExec { .. } | Self::Gone(_) => ErrorKind::NotFound,
            Self::Exists { .. } => ErrorKind::AlreadyExists,
            Self::Creating(_) => ErrorKind::FailedPrecondition,
            Self::Invalid { .. } => ErrorKind::InvalidArgument,
            Self::Record(error) => error.kind(),
            Self::Config(error) => error.kind(),
            Self::Spec(error) => error.kind(),
            Self::Mounts(error) => error.kind(),
            Self::Fault(_) => ErrorKind::Internal,
            Self::Process(error) => error.kind(),
            Self::Checkpoint(error) => error.kind(),
        }
    }
}
