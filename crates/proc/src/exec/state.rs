//! The states of an exec process.

use stasis_engine::ExecPids;

use crate::{error::Error, monitor::Watched};

/// The state of an exec process.
#[derive(Debug)]
pub(super) enum ExecState {
    /// Nothing was made of it yet.
    Created,
    /// The runtime works at it.
    Starting,
    /// It runs, or its end is not told yet.
    Running(Watched, ExecPids),
    /// It has ended, or could not be started.
    Stopped,
    /// It was deleted. All that may be left is output that nobody has read yet.
    Deleted,
}

impl ExecState {
    /// The refusal of `verb` in this state.
    pub(super) fn refuse(&self, verb: &'static str) -> Error {
        let (state, advice) = match self {
            Self::Created => ("not yet started", ": start it first"),
            Self::Starting => ("starting", ""),
            Self::Running(..) => (
                "running",
                if verb == "delete" {
                    ": kill it first"
                } else {
                    ""
                },
            ),
            Self::Stopped => ("stopped", ""),
            Self::Deleted => ("deleted", ""),
        };
        Error::WrongState {
            verb,
            state,
            what: "exec process",
            advice,
        }
    }
}
