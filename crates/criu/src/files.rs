//! A file that CRIU left in a directory, such as its log or its statistics: read without following
//! a link, since whoever may write to the directory could have it lead anywhere, and never more of
//! it than asked for.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags, fstatvfs, openat};

/// A directory that CRIU wrote to, by its path or as an open descriptor.
#[derive(Debug, Clone, Copy)]
pub enum Directory<'a> {
    /// Its path, which may lead over links.
    Path(&'a Path),
    /// An open descriptor of it.
    Descriptor(BorrowedFd<'a>),
}

impl<'a> From<&'a Path> for Directory<'a> {
    fn from(path: &'a Path) -> Self {
        Self::Path(path)
    }
}

impl<'a> From<BorrowedFd<'a>> for Directory<'a> {
    fn from(descriptor: BorrowedFd<'a>) -> Self {
        Self::Descriptor(descriptor)
    }
}

impl Directory<'_> {
    /// Opens the regular file `name` in it for reading.
    pub(crate) fn open(self, name: &Path) -> io::Result<File> {
        // Without NONBLOCK a FIFO of that name would hold the caller up.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = match self {
            Self::Path(path) => {
                let flags_of_directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let directory = openat(CWD, path, flags_of_directory, Mode::empty())?;
                openat(directory.as_fd(), name, flags, Mode::empty())?
            }
            Self::Descriptor(directory) => openat(directory, name, flags, Mode::empty())?,
        };
        let file = File::from(opened);
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is no regular file",
            ))
        }
    }
}

/// Where an open directory is.
pub(crate) fn path_of(directory: BorrowedFd<'_>) -> PathBuf {
    let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
    fs::read_link(link).unwrap_or_default()
}

/// Has the file system of `directory` no room left, where it could have some?
pub(crate) fn is_full(directory: impl AsFd) -> bool {
    fstatvfs(directory).is_ok_and(|system| {
        // One without a limit counts no blocks, and a read-only one has none free.
        let limited = system.f_blocks > 0 && !system.f_flag.contains(StatVfsMountFlags::RDONLY);
        limited && system.f_bavail == 0
    })
}

/// Reads a file from its beginning, up to one byte more than `most`: whoever gets that byte knows
/// that the file is too long.
pub(crate) fn head(file: File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads the last `most` bytes of a file, or all of it if it has fewer.
pub(crate) fn tail(mut file: File, most: u64) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut bytes = Vec::new();
    // It may have grown since.
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn neither_links_nor_what_is_no_file_is_read() {
        let scratch = tempfile::tempdir().unwrap();
        fs::write(scratch.path().join("file"), "text").unwrap();
        symlink("file", scratch.path().join("link")).unwrap();
        fs::create_dir(scratch.path().join("inner")).unwrap();
        let directory = Directory::from(scratch.path());
        directory.open(Path::new("file")).unwrap();
        for name in ["link", "inner", "none"] {
            directory.open(Path::new(name)).unwrap_err();
        }
    }

    #[test]
    fn a_fifo_holds_nobody_up() {
        let scratch = tempfile::tempdir().unwrap();
        let fifo = scratch.path().join("fifo");
        rustix::fs::mkfifoat(CWD, &fifo, Mode::RUSR | Mode::WUSR).unwrap();
        let directory = Directory::from(scratch.path());
        let error = directory.open(Path::new("fifo")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn the_head_says_when_there_is_more_and_the_tail_is_the_end() {
        let scratch = tempfile::tempdir().unwrap();
        fs::write(scratch.path().join("file"), "0123456789").unwrap();
        let open = || {
            Directory::from(scratch.path())
                .open(Path::new("file"))
                .unwrap()
        };
        assert_eq!(head(open(), 10).unwrap(), b"0123456789");
        assert_eq!(head(open(), 4).unwrap(), b"01234");
        assert_eq!(tail(open(), 4).unwrap(), b"6789");
        assert_eq!(tail(open(), 40).unwrap(), b"0123456789");
    }
}
