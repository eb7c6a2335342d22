//! Directories and descriptors that a request names.

use std::{
    fmt,
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{Mode, OFlags};

/// A directory that CRIU is to use.
///
/// ```
/// use stasis_criu::options::Dir;
///
/// assert_eq!(Dir::from("/var/lib/images"), Dir::Path("/var/lib/images".into()));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dir {
    /// This path, opened here when the request is made.
    Path(PathBuf),
    /// This descriptor.
    Descriptor(Descriptor),
    /// This path, opened by CRIU, in its mount namespace: for a service that cannot see the
    /// client's descriptors. Only for the images directory, from CRIU 3.19 on.
    Named(PathBuf),
}

impl Dir {
    /// A path by which this process finds it, if it is sure to be the one that CRIU finds.
    pub(super) fn here(&self) -> Option<PathBuf> {
        match self {
            Self::Path(path) => Some(path.clone()),
            Self::Descriptor(descriptor) => Some(descriptor.path()),
            Self::Named(_) => None,
        }
    }

    /// An open descriptor of it, unless CRIU is to open it.
    pub(super) fn open(&self) -> io::Result<Option<Arc<OwnedFd>>> {
        match self {
            Self::Path(path) => open(path).map(|fd| Some(Arc::new(fd))),
            Self::Descriptor(descriptor) => Ok(Some(descriptor.0.clone())),
            Self::Named(_) => Ok(None),
        }
    }
}

pub(super) fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

impl fmt::Display for Dir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) | Self::Named(path) => write!(f, "{}", path.display()),
            Self::Descriptor(descriptor) => write!(f, "descriptor {}", descriptor.number()),
        }
    }
}

impl<P: AsRef<Path>> From<P> for Dir {
    fn from(path: P) -> Self {
        Self::Path(path.as_ref().to_owned())
    }
}

impl From<Descriptor> for Dir {
    fn from(descriptor: Descriptor) -> Self {
        Self::Descriptor(descriptor)
    }
}

/// An open descriptor that options share with whoever made it. Two are equal if they are the same
/// descriptor, not if they lead to the same file.
#[derive(Debug, Clone)]
pub struct Descriptor(Arc<OwnedFd>);

impl Descriptor {
    pub(super) fn number(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    pub(super) fn shared(&self) -> Arc<OwnedFd> {
        self.0.clone()
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.number()))
    }
}

impl PartialEq for Descriptor {
    fn eq(&self, other: &Self) -> bool {
        self.number() == other.number()
    }
}

impl Eq for Descriptor {}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Descriptor {
    fn from(fd: OwnedFd) -> Self {
        Self(Arc::new(fd))
    }
}

impl From<Arc<OwnedFd>> for Descriptor {
    fn from(fd: Arc<OwnedFd>) -> Self {
        Self(fd)
    }
}

impl From<File> for Descriptor {
    fn from(file: File) -> Self {
        Self::from(OwnedFd::from(file))
    }
}
