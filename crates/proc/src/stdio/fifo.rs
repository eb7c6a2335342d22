//! What the path of a stream means, and opening FIFOs without waiting for their other end.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::fs::{FileType, Mode, OFlags, fstat, open};

use crate::error::{Error, Result};

/// The path that `value` names; none if the stream is not set.
pub(super) fn path<'a>(stream: &str, value: &'a str) -> Result<Option<&'a Path>> {
    match value.split_once("://") {
        _ if value.is_empty() => Ok(None),
        None => Ok(Some(Path::new(value))),
        Some(("fifo", path)) => Ok(Some(Path::new(path))),
        Some((scheme, _)) => Err(Error::UnsupportedStdio {
            what: format!("{stream} by {scheme}://"),
        }),
    }
}

/// A FIFO that was found, and stays the same whatever its path names later.
#[derive(Debug)]
pub(super) struct Fifo {
    stream: &'static str,
    path: PathBuf,
    found: OwnedFd,
}

impl Fifo {
    /// Finds the FIFO at `path`. It is not opened: that could have effects on a device.
    pub(super) fn find(stream: &'static str, path: &Path) -> Result<Self> {
        let fail = |errno| open_error(stream, path, errno);
        let found = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(fail)?;
        let stat = fstat(&found).map_err(fail)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo {
            return Err(Error::NotFifo {
                stream,
                path: path.to_owned(),
            });
        }
        Ok(Self {
            stream,
            path: path.to_owned(),
            found,
        })
    }

    /// Which stream it is for.
    pub(super) fn stream(&self) -> &'static str {
        self.stream
    }

    /// Opens it, without blocking. For writing it must have a reader, which may be ours.
    pub(super) fn open(&self, access: OFlags) -> Result<OwnedFd> {
        let again = format!("/proc/self/fd/{}", self.found.as_raw_fd());
        open(
            again,
            access | OFlags::NONBLOCK | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|errno| open_error(self.stream, &self.path, errno))
    }
}

fn open_error(stream: &'static str, path: &Path, errno: rustix::io::Errno) -> Error {
    Error::OpenFifo {
        stream,
        path: path.to_owned(),
        source: io::Error::from(errno),
    }
}
