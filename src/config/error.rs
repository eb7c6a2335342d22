//! Why there is no configuration.

use std::{io, path::PathBuf};

use stasis_proc::ErrorKind;

/// Why there is no configuration. The place is a file or the options of the request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file that was named, or a default one that exists, cannot be read.
    #[error("cannot read the configuration file {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is too long to be a configuration.
    #[error("the configuration file {path} is longer than {limit} bytes", path = path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The most that is read.
        limit: u64,
    },
    /// It is not TOML, or a key is unknown or has a value of the wrong type. The message of the
    /// parser names the key and lists the known ones, so it is our message and not a source.
    #[error("{place}: {message}")]
    Parse {
        /// The file and line, or the options.
        place: String,
        /// What the parser said.
        message: String,
    },
    /// A key of gVisor's that asks for what this shim does not do.
    #[error(
        "{place}: {key} = true is not supported by this shim: remove the key or set it to false"
    )]
    Refused {
        /// The file or the options.
        place: String,
        /// The key.
        key: &'static str,
    },
}

impl Error {
    /// What kind of error this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                ErrorKind::NotFound
            }
            Self::Read { .. } => ErrorKind::Internal,
            Self::Refused { .. } => ErrorKind::Unimplemented,
            Self::TooLong { .. } | Self::Parse { .. } => ErrorKind::InvalidArgument,
        }
    }
}
