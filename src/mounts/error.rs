//! Why a rootfs cannot be mounted or unmounted.

use std::{io, path::PathBuf};

use stasis_linux::mountinfo::DetachError;
use stasis_proc::ErrorKind;

use super::options::MAX_DATA;

/// Why a mount or unmount failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The mount asks for what only containerd can do.
    #[error(
        "rootfs mount {mount} is not supported: {what}. Use a snapshotter that gives plain mounts"
    )]
    Unsupported {
        /// The mount.
        mount: String,
        /// What about it.
        what: String,
    },
    /// Its options do not fit into the page that the kernel reads.
    #[error(
        "rootfs mount {mount} has {length} bytes of options, {MAX_DATA} is the most: the image \
         has too many layers for this snapshotter's directory"
    )]
    TooLong {
        /// The mount.
        mount: String,
        /// Their length, as short as they can be made.
        length: usize,
    },
    /// The system refused the mount.
    #[error("cannot mount {mount} on {target}", target = target.display())]
    Mount {
        /// The mount.
        mount: String,
        /// Where.
        target: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The mounts stay.
    #[error(transparent)]
    Detach(#[from] DetachError),
}

impl Error {
    /// What kind of error this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unsupported { .. } => ErrorKind::Unimplemented,
            Self::TooLong { .. } => ErrorKind::InvalidArgument,
            Self::Mount { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                ErrorKind::NotFound
            }
            Self::Mount { .. } | Self::Detach(_) => ErrorKind::Internal,
        }
    }
}
