//! Why a call of the task service is refused.

use stasis_proc::ErrorKind;

use super::options;
use crate::container;

/// Why a call is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The options of the request cannot be used.
    #[error(transparent)]
    Options(#[from] options::Error),
    /// The pod or the container refuses, or fails.
    #[error(transparent)]
    Container(#[from] container::Error),
}

impl Error {
    /// What kind of answer this is.
    pub(super) fn kind(&self) -> ErrorKind {
        match self {
            Self::Options(error) => error.kind(),
            Self::Container(error) => error.kind(),
        }
    }
}
