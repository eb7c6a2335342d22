//! Why a checkpoint was refused or failed.

use std::{io, path::PathBuf};

use stasis_engine::{CgroupMode, manifest};
use stasis_proc::ErrorKind;

/// What a step of a checkpoint gives.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a checkpoint was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cgroup mode is none of CRIU's.
    #[error("cgroup mode {name:?} does not exist: use {known}",
        known = CgroupMode::NAMED.map(CgroupMode::as_str).join(", "))]
    CgroupMode {
        /// The mode that was sent.
        name: String,
    },
    /// Neither the request nor its options name a directory, or not by an absolute path.
    #[error(
        "the checkpoint request names the image directory {image:?}: \
        set its path or image_path to an absolute path"
    )]
    ImagePath {
        /// The path that was sent.
        image: PathBuf,
    },
    /// The image directory cannot be made, read or written.
    #[error("cannot use {image} as image directory: it must be a directory that can be written",
        image = image.display())]
    ImageDirectory {
        /// The directory.
        image: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The image directory holds something.
    #[error("image directory {image} is not empty (it holds {entry}): remove it or name another",
        image = image.display())]
    ImageDirectoryInUse {
        /// The directory.
        image: PathBuf,
        /// One of the things in it.
        entry: String,
    },
    /// The disk of the image directory is full.
    #[error("no space left on device for image directory {image} ({free} bytes are free): \
        make room, or name a directory on another disk", image = image.display())]
    DiskFull {
        /// The directory.
        image: PathBuf,
        /// What is left.
        free: u64,
        /// How the engine said it.
        source: Box<Error>,
    },
    /// The work directory cannot be made.
    #[error("cannot use {work} as CRIU's work directory", work = work.display())]
    WorkDirectory {
        /// The directory.
        work: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// CRIU's work directory and the image directory overlap, so that one would be sealed or
    /// removed with the other.
    #[error("image directory {image} and CRIU's work directory {work} overlap: name another",
        image = image.display(), work = work.display())]
    Overlap {
        /// The image directory.
        image: PathBuf,
        /// The work directory.
        work: PathBuf,
    },
    /// CRIU has ended the container, and then its image could not be sealed, or the runtime failed
    /// otherwise.
    #[error(
        "the container has ended, and its image {image} is kept, but not sealed: if CRIU has \
        completed it, it can be restored under a configuration whose [checkpoint] has the options \
        of this dump, tcp_established among them", image = image.display())]
    Unsealed {
        /// The image directory.
        image: PathBuf,
        /// Why it could not be sealed.
        source: Box<Error>,
    },
    /// Incremental restores need what runtimes do not offer.
    #[error(
        "a restore with a parent checkpoint ({parent}) is not supported: restore from a full one",
        parent = parent.display()
    )]
    ParentCheckpoint {
        /// The parent that was sent.
        parent: PathBuf,
    },
    /// The work on the image's files panicked.
    #[error("a fault of the shim while it worked on the image")]
    Fault(#[from] tokio::task::JoinError),
    /// The process object or, beneath it, the engine or the image.
    #[error(transparent)]
    Process(#[from] stasis_proc::Error),
}

impl From<manifest::Error> for Error {
    fn from(error: manifest::Error) -> Self {
        stasis_engine::Error::from(error).into()
    }
}

impl From<stasis_engine::Error> for Error {
    fn from(error: stasis_engine::Error) -> Self {
        Self::Process(error.into())
    }
}

impl Error {
    /// What kind of answer this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::CgroupMode { .. }
            | Self::ImagePath { .. }
            | Self::ImageDirectory { .. }
            | Self::WorkDirectory { .. }
            | Self::Overlap { .. }
            | Self::ParentCheckpoint { .. } => ErrorKind::InvalidArgument,
            Self::ImageDirectoryInUse { .. } => ErrorKind::FailedPrecondition,
            Self::DiskFull { .. } | Self::Unsealed { .. } | Self::Fault(_) => ErrorKind::Internal,
            Self::Process(error) => error.kind(),
        }
    }
}
