//! Why a cgroup could not be found, read or changed.

use std::{io, path::PathBuf};

/// What was done to which file, and what the system said.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} {path}", path = path.display())]
pub struct CgroupError {
    /// What was done.
    pub step: &'static str,
    /// To what.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl CgroupError {
    /// For `map_err`.
    pub(crate) fn io(
        step: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self { step, path, source }
    }
}
