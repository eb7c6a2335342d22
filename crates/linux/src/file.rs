//! Reading files that somebody else may have put there: without following a link, since whoever may
//! write to the directory could have it lead anywhere, without waiting for a FIFO's writer, and
//! never more than is asked for. And replacing one, so that nobody sees half of it.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek as _, SeekFrom, Write as _},
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd},
        unix::fs::OpenOptionsExt as _,
    },
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags, fstatvfs, openat};

/// A directory that somebody writes to, by its path or as an open descriptor.
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
    /// Opens the regular file `name` in it for reading, and follows no link that has its name.
    ///
    /// # Errors
    /// If there is none, or it is something else.
    pub fn open(self, name: &Path) -> io::Result<File> {
        let flags = READING | OFlags::NOFOLLOW;
        let opened = match self {
            Self::Path(path) => {
                let flags_of_directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let directory = openat(CWD, path, flags_of_directory, Mode::empty())?;
                openat(directory.as_fd(), name, flags, Mode::empty())?
            }
            Self::Descriptor(directory) => openat(directory, name, flags, Mode::empty())?,
        };
        regular(File::from(opened))
    }
}

/// How a file is opened: without `NONBLOCK` a FIFO of that name would hold the caller up.
const READING: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);

/// Opens the regular file at `path` for reading. Links are followed.
///
/// # Errors
/// If there is none, or it is something else.
pub fn open(path: &Path) -> io::Result<File> {
    regular(File::from(openat(CWD, path, READING, Mode::empty())?))
}

fn regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        let why = "it is no regular file";
        Err(io::Error::new(io::ErrorKind::InvalidInput, why))
    }
}

/// Replaces the file at `path`, or a link there, by a file with these contents: whoever reads it sees
/// the one before or the whole new one. If it is to be `durable`, even after a power cut.
///
/// # Errors
/// If it cannot be written; the one before is still there.
pub fn replace(path: &Path, contents: &[u8], mode: u32, durable: bool) -> io::Result<()> {
    /// Tells apart those of this process that write at the same time.
    static WRITES: AtomicU32 = AtomicU32::new(0);

    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let (aside, mut file) = loop {
        let mut aside = OsString::from(".");
        aside.push(name);
        let write = WRITES.fetch_add(1, Ordering::Relaxed);
        aside.push(format!(".{}.{write}", process::id()));
        let aside = directory.join(aside);
        // A link that was laid there is not followed: the name is new, or the next one is taken.
        let mut options = OpenOptions::new();
        match options.write(true).create_new(true).mode(mode).open(&aside) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            file => break (aside, file?),
        }
    };
    let written = (|| {
        file.write_all(contents)?;
        if durable {
            file.sync_all()?;
        }
        fs::rename(&aside, path)
    })();
    written.inspect_err(|_| {
        // It is ours; what keeps it from going is what is told already.
        let _ = fs::remove_file(&aside);
    })?;
    if durable {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// Where an open directory is.
pub fn path_of(directory: BorrowedFd<'_>) -> PathBuf {
    let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
    fs::read_link(link).unwrap_or_default()
}

/// Has the file system of `directory` no room left, where it could have some?
pub fn is_full(directory: impl AsFd) -> bool {
    fstatvfs(directory).is_ok_and(|system| {
        // One without a limit counts no blocks, and a read-only one has none free.
        let limited = system.f_blocks > 0 && !system.f_flag.contains(StatVfsMountFlags::RDONLY);
        limited && system.f_bavail == 0
    })
}

/// Reads the file at `path` whole, of whatever kind it is.
///
/// # Errors
/// If it cannot be read, or, as [`whole`], has more than `most` bytes.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    whole(File::open(path)?, most)
}

/// Reads what is left of `from`, to its end.
///
/// # Errors
/// If it cannot be read; [`io::ErrorKind::FileTooLarge`] if that is more than `most` bytes.
pub fn whole(from: impl Read, most: u64) -> io::Result<Vec<u8>> {
    let bytes = head(from, most)?;
    if bytes.len() as u64 > most {
        let why = format!("it is longer than {most} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(bytes)
}

/// Reads a file from its beginning, up to one byte more than `most`: whoever gets that byte knows
/// that the file is too long.
///
/// # Errors
/// If it cannot be read.
pub fn head(from: impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads the last `most` bytes of a file, or all of it if it has fewer.
///
/// # Errors
/// If it cannot be read.
pub fn tail(mut file: File, most: u64) -> io::Result<Vec<u8>> {
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

    #[test]
    fn a_file_is_read_whole_or_not_at_all() {
        assert_eq!(whole(&b"0123"[..], 4).unwrap(), b"0123");
        let error = whole(&b"01234"[..], 4).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(error.to_string(), "it is longer than 4 bytes");
        assert_eq!(read(Path::new("/dev/null"), 4).unwrap(), b"");
    }

    #[test]
    fn what_is_opened_by_its_path_is_a_regular_file_too() {
        for path in ["/dev/null", "/proc"] {
            let error = super::open(Path::new(path)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{path}");
        }
        super::open(Path::new("/proc/self/exe")).unwrap();
    }

    #[test]
    fn a_file_is_replaced_whole_and_a_link_is_not_followed() {
        let scratch = tempfile::tempdir().unwrap();
        let (target, path) = (scratch.path().join("target"), scratch.path().join("file"));
        fs::write(&target, "secret").unwrap();
        symlink(&target, &path).unwrap();
        for (contents, durable) in [("a longer content", false), ("new", true)] {
            replace(&path, contents.as_bytes(), 0o600, durable).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), contents);
        }
        assert_eq!(fs::read_to_string(target).unwrap(), "secret");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 2);
        replace(Path::new("/no/such/directory"), b"", 0o600, false).unwrap_err();
    }
}
