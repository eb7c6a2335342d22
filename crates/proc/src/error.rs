//! Why a verb was refused or failed, and what kind of answer that is to a client.

use std::{io, path::PathBuf, time::Duration};

use nix::unistd::Pid;

/// What a verb gives.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a verb was refused or failed. A message says the step and the thing; its cause is the
/// source.
#[derive(Debug, thiserror::Error)]
#[expect(
    clippy::error_impl_error,
    reason = "the crate has one, and `stasis_proc::Error` says it"
)]
pub enum Error {
    /// The verb has no meaning in this state.
    #[error("cannot {verb} a {state} {what}{advice}")]
    WrongState {
        /// What was asked.
        verb: &'static str,
        /// The state that forbids it.
        state: &'static str,
        /// `container` or `exec process`.
        what: &'static str,
        /// What to do first, led in by a colon; empty if nothing helps.
        advice: &'static str,
    },
    /// Another verb is in progress.
    #[error("cannot {verb}: {other} is in progress")]
    Busy {
        /// What was asked.
        verb: &'static str,
        /// What is being done, with its article.
        other: &'static str,
    },
    /// There is no process left to signal.
    #[error("process already finished: {id}")]
    Finished {
        /// The container's id, or the exec's.
        id: String,
    },
    /// The runtime refused or failed; the engine's words say all.
    #[error(transparent)]
    Engine(#[from] stasis_engine::Error),
    /// A kind of standard stream that this shim does not serve.
    #[error("{what} is not supported: use FIFOs, or no streams")]
    UnsupportedStdio {
        /// The terminal, or the stream and its scheme.
        what: String,
    },
    /// A stream's path names something else than a FIFO.
    #[error("{stream} {path} is not a FIFO", path = path.display())]
    NotFifo {
        /// Which stream.
        stream: &'static str,
        /// Its path.
        path: PathBuf,
    },
    /// A stream's FIFO could not be opened.
    #[error("cannot open the FIFO of {stream}, {path}", path = path.display())]
    OpenFifo {
        /// Which stream.
        stream: &'static str,
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The document that describes an exec process cannot be one.
    #[error("the process document of exec {id} is not a JSON object")]
    NotAProcess {
        /// The exec's id.
        id: String,
    },
    /// A file of the bundle could not be written.
    #[error("cannot write {path}", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused something that has no path.
    #[error("cannot {step}")]
    System {
        /// What was tried.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The new process cannot be waited for.
    #[error("cannot watch process {pid} of {id}")]
    Watch {
        /// The pid that the runtime gave.
        pid: Pid,
        /// The container's id, or the exec's.
        id: String,
        /// What the system said.
        source: io::Error,
    },
    /// A process that was killed has not ended.
    #[error("{id} was killed, but its process has not ended within {after:?}: try again")]
    StillRunning {
        /// The container's id, or the exec's.
        id: String,
        /// How long it was waited for.
        after: Duration,
    },
}

/// What kind of answer an error is, in the words of the gRPC codes that clients tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// There is no such thing.
    NotFound,
    /// There is such a thing already.
    AlreadyExists,
    /// Not in this state.
    FailedPrecondition,
    /// Not with these arguments.
    InvalidArgument,
    /// Never, by this shim.
    Unimplemented,
    /// Not in time.
    DeadlineExceeded,
    /// The system failed us.
    Internal,
    /// The runtime failed, and only its message tells how.
    Unknown,
}

impl Error {
    /// What kind of answer this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::WrongState { .. } | Self::Busy { .. } => ErrorKind::FailedPrecondition,
            Self::Finished { .. } => ErrorKind::NotFound,
            Self::Engine(error) => ErrorKind::from(error),
            Self::UnsupportedStdio { .. } => ErrorKind::Unimplemented,
            Self::NotFifo { .. } | Self::NotAProcess { .. } => ErrorKind::InvalidArgument,
            Self::OpenFifo { source, .. } => match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                    ErrorKind::InvalidArgument
                }
                _ => ErrorKind::Internal,
            },
            Self::Write { .. } | Self::System { .. } | Self::Watch { .. } => ErrorKind::Internal,
            Self::StillRunning { .. } => ErrorKind::DeadlineExceeded,
        }
    }

    /// For `map_err`: a failed system call together with what it was for.
    pub(crate) fn system<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System {
            step,
            source: source.into(),
        }
    }
}

impl From<&stasis_engine::Error> for ErrorKind {
    fn from(error: &stasis_engine::Error) -> Self {
        use stasis_engine::Error;
        match error {
            Error::NoSuchContainer { .. } | Error::NoSuchProcess { .. } => Self::NotFound,
            Error::Unsupported { .. } => Self::Unimplemented,
            Error::Deadline { .. } => Self::DeadlineExceeded,
            Error::Image(_) => Self::FailedPrecondition,
            Error::Binary { .. } | Error::UnknownRuntime { .. } => Self::InvalidArgument,
            Error::Io { .. } => Self::Internal,
            Error::Failed { .. } | Error::Criu { .. } | Error::Answer { .. } => Self::Unknown,
            Error::Left { source, .. } => Self::from(&**source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_verb_and_state_and_the_way_out() {
        let error = Error::WrongState {
            verb: "checkpoint",
            state: "created",
            what: "container",
            advice: ": start it first",
        };
        assert_eq!(
            error.to_string(),
            "cannot checkpoint a created container: start it first"
        );
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    }

    #[test]
    fn a_message_leaves_its_source_to_the_chain() {
        let error = Error::system("make a pipe")(io::Error::other("no room"));
        assert_eq!(error.to_string(), "cannot make a pipe");
    }

    #[test]
    fn a_missing_fifo_is_the_clients_mistake_and_a_full_table_is_not() {
        let open = |kind: io::ErrorKind| Error::OpenFifo {
            stream: "stdout",
            path: "/nowhere".into(),
            source: kind.into(),
        };
        assert_eq!(
            open(io::ErrorKind::NotFound).kind(),
            ErrorKind::InvalidArgument
        );
        assert_eq!(open(io::ErrorKind::Other).kind(), ErrorKind::Internal);
    }
}
