//! Why options are refused.

use std::{fmt, io, path::PathBuf};

use thiserror::Error;

use crate::{request::Request, version::Version};

use super::table::Release;

/// An option that CRIU would refuse late, misread, or pass over in silence.
///
/// Options are called as `criu_opts` calls them.
#[derive(Debug, Error)]
pub enum OptionError {
    /// The request has no use for it.
    #[error("{option} is not for a {request}, only for: {takes}", takes = Listed(takes))]
    WrongRequest {
        /// The option.
        option: &'static str,
        /// The request.
        request: Request,
        /// The requests that it is for.
        takes: &'static [Request],
    },
    /// The CRIU that runs does not have it.
    #[error("{option} needs CRIU {since} or later, and this one is {running}")]
    TooNew {
        /// The option, and its value where only that is newer.
        option: String,
        /// The first release that has it.
        since: Release,
        /// The CRIU that runs.
        running: Version,
    },
    /// It cannot have this value.
    #[error("{option} cannot be {value:?}: {reason}")]
    Value {
        /// The option.
        option: &'static str,
        /// The value.
        value: String,
        /// What is wrong with it, and what would be right.
        reason: &'static str,
    },
    /// It cannot be asked for together with another.
    #[error("{option} and {other} cannot be asked for together: {reason}")]
    Conflict {
        /// The option.
        option: &'static str,
        /// The other one.
        other: &'static str,
        /// Why not, and what to do instead.
        reason: &'static str,
    },
    /// It, or the request, does nothing useful without an option.
    #[error("{what} needs {option}: {reason}")]
    Incomplete {
        /// The option that needs another, or the request.
        what: String,
        /// The option that is missing.
        option: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// It names a file or a directory that cannot be had.
    #[error("{option} {path} cannot be opened", path = path.display())]
    Path {
        /// The option.
        option: &'static str,
        /// The path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A text of CRIU's RPC is UTF-8, and this is not.
    #[error("{option} {value:?} is no UTF-8, which a message of CRIU's RPC has to be")]
    NotUtf8 {
        /// The option.
        option: &'static str,
        /// The value, as far as it can be shown.
        value: String,
    },
    /// A configuration file has no key for it.
    #[error("{option} cannot stand in a configuration file of CRIU: {reason}")]
    NoKey {
        /// The option.
        option: &'static str,
        /// Why not.
        reason: &'static str,
    },
    /// A configuration file has no way to write this value.
    #[error("{option} {value:?} cannot stand in a configuration file of CRIU: {reason}")]
    Unwritable {
        /// The option.
        option: &'static str,
        /// The value.
        value: String,
        /// Why not.
        reason: &'static str,
    },
    /// The configuration file would do harm to a request that reads it and that the option is not
    /// for.
    #[error("{option} cannot stand in a configuration file that a {request} reads: {reason}")]
    Harmful {
        /// The option.
        option: &'static str,
        /// The request.
        request: Request,
        /// What would happen.
        reason: &'static str,
    },
}

impl OptionError {
    pub(super) fn value(
        option: &'static str,
        value: impl fmt::Display,
        reason: &'static str,
    ) -> Self {
        Self::Value {
            option,
            value: value.to_string(),
            reason,
        }
    }
}

/// Requests, one after the other.
struct Listed<'a>(&'a [Request]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, request) in self.0.iter().enumerate() {
            let separator = if place == 0 { "" } else { ", " };
            write!(f, "{separator}{request}")?;
        }
        Ok(())
    }
}
