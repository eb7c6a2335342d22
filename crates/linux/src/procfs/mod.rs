//! What `/proc/PID` says of one process.
//!
//! A process is held by the directory `/proc/PID`, opened once: the kernel ties the directory to
//! the process, not to its number, so that everything read through it is of this process, or fails
//! with ESRCH when it is gone, though its number be another's by then. Nothing is read without a
//! bound, and what grows with the machine (sockets, mappings) line by line.
//!
//! Formats: proc_pid_stat(5), proc_pid_status(5), proc_pid_fd(5), proc_pid_fdinfo(5),
//! proc_pid_mountinfo(5), proc_pid_net(5) and the kernel's Documentation/filesystems/proc.rst;
//! recorded on Linux 6.18. Which processes belong together is nothing that is known here.

mod error;
mod fd;
mod net;
mod stat;
mod status;
mod tasks;
#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::{self, BufReader},
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
};

use rustix::{
    fs::{AtFlags, CWD, Dir, Mode, OFlags, openat, statat},
    io::Errno,
};

pub use error::Error;
pub use fd::{FileKind, IO_URING, OpenFile};
pub use net::{Family, InternetSocket, SocketType, TcpState, UnixSocket};
pub use stat::Stat;
pub use status::{Ids, Status};
pub use tasks::{children, process_of, threads};

use crate::{
    file::head,
    lines::{each_line, text},
    mountinfo::Mount,
};

/// The most that is read of a file of a few lines.
const SMALL: u64 = 64 << 10;

/// The most that is kept of a command line; the rest is cut.
const COMMAND_LINE: u64 = 128 << 10;

/// The most mounts of one namespace: the kernel's own default limit, fs.mount-max.
const MOUNTS: usize = 100_000;

/// The most descriptors of one process: the kernel's own limit, fs.nr_open.
const DESCRIPTORS: usize = 1 << 20;

/// One process, by its directory in `/proc`.
#[derive(Debug)]
pub struct Entry {
    pid: u32,
    directory: OwnedFd,
}

impl Entry {
    /// Takes hold of the process that has the number `pid` now.
    pub fn open(pid: u32) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, format!("/proc/{pid}"), flags, Mode::empty())
            .map_err(|errno| failure(pid, "its directory in /proc", errno.into()))?;
        Ok(Self { pid, directory })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// State, ancestry, session, terminal, start.
    pub fn stat(&self) -> Result<Stat, Error> {
        let text = self.read("stat", SMALL)?;
        Stat::parse(&text).ok_or_else(|| self.strange("stat"))
    }

    /// Whom it runs as, what it is called itself, what waits for it.
    pub fn status(&self) -> Result<Status, Error> {
        // A process may be in 65,536 groups of ten digits.
        let text = self.read("status", 1 << 20)?;
        Status::parse(&text).ok_or_else(|| self.strange("status"))
    }

    /// Its command line, the words separated by spaces.
    pub fn command_line(&self) -> Result<String, Error> {
        let mut text = self.read("cmdline", COMMAND_LINE)?;
        text.truncate(usize::try_from(COMMAND_LINE).unwrap_or(usize::MAX));
        while text.last() == Some(&0) {
            text.pop();
        }
        for byte in &mut text {
            if *byte == 0 {
                *byte = b' ';
            }
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// The function of the kernel in which it waits, if it does.
    pub fn waits_in(&self) -> Result<String, Error> {
        let name = self.read("wchan", SMALL)?;
        Ok(String::from_utf8_lossy(&name).trim().to_owned())
    }

    /// Where it works.
    pub fn working_directory(&self) -> Result<PathBuf, Error> {
        self.link("cwd")
    }

    /// The inode of its namespace of a kind: "mnt", "net", "pid" ...
    pub fn namespace(&self, kind: &str) -> Result<u64, Error> {
        let name = format!("ns/{kind}");
        let stat = statat(&self.directory, &name, AtFlags::empty())
            .map_err(|errno| failure(self.pid, &name, errno.into()))?;
        Ok(stat.st_ino)
    }

    /// A descriptor of its namespace of a kind, to be entered.
    pub fn open_namespace(&self, kind: &str) -> Result<OwnedFd, Error> {
        let name = format!("ns/{kind}");
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        openat(&self.directory, &name, flags, Mode::empty())
            .map_err(|errno| failure(self.pid, &name, errno.into()))
    }

    /// What it has open, by descriptor. What is closed meanwhile is left out.
    pub fn open_files(&self) -> Result<Vec<OpenFile>, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |name: &str| {
            openat(&self.directory, name, flags, Mode::empty())
                .map_err(|errno| failure(self.pid, name, errno.into()))
        };
        let (links, infos) = (open("fd")?, open("fdinfo")?);
        let mut files = Vec::new();
        for number in numbers(&links).map_err(|source| failure(self.pid, "fd", source))? {
            if files.len() == DESCRIPTORS {
                return Err(self.too_long("fd"));
            }
            match fd::read(links.as_fd(), infos.as_fd(), number) {
                Ok(file) => files.push(file),
                Err(source) if is_gone(&source) => {}
                Err(source) => return Err(failure(self.pid, &format!("fd/{number}"), source)),
            }
        }
        files.sort_by_key(|file: &OpenFile| file.fd);
        Ok(files)
    }

    /// The mounts of its mount namespace that it can see.
    pub fn mounts(&self) -> Result<Vec<Mount>, Error> {
        let mut mounts = Vec::new();
        self.lines("mountinfo", |line| {
            if mounts.len() == MOUNTS {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            mounts.push(Mount::parse(line).ok_or(io::ErrorKind::InvalidData)?);
            Ok(())
        })?;
        Ok(mounts)
    }

    /// The sockets of TCP and UDP in its network namespace that `wanted` picks by inode.
    pub fn internet_sockets(
        &self,
        wanted: &dyn Fn(u64) -> bool,
    ) -> Result<Vec<InternetSocket>, Error> {
        let mut sockets = Vec::new();
        for (name, family, kind) in net::TABLES {
            let read = self.lines(&format!("net/{name}"), |line| {
                sockets.extend(
                    InternetSocket::parse(line, family, kind).filter(|socket| wanted(socket.inode)),
                );
                Ok(())
            });
            match read {
                // A kernel without IPv6 has no such table.
                Err(Error::Gone { .. }) if self.is_alive() => {}
                read => read?,
            }
        }
        Ok(sockets)
    }

    /// The Unix sockets in its network namespace that `wanted` picks by inode.
    pub fn unix_sockets(&self, wanted: &dyn Fn(u64) -> bool) -> Result<Vec<UnixSocket>, Error> {
        let mut sockets = Vec::new();
        self.lines("net/unix", |line| {
            sockets.extend(UnixSocket::parse(line).filter(|socket| wanted(socket.inode)));
            Ok(())
        })?;
        Ok(sockets)
    }

    /// Does any of its mappings come from a file that is called so? Of one that has been removed the
    /// kernel says so behind its name.
    pub fn maps(&self, name: &str) -> Result<bool, Error> {
        let mut found = false;
        self.lines("maps", |line| {
            let line = line.strip_suffix(b" (deleted)").unwrap_or(line);
            found |= line.ends_with(name.as_bytes());
            Ok(())
        })?;
        Ok(found)
    }

    /// What `read` gives, or that it is gone where it ends meanwhile: for that the kernel has other
    /// words too, as EINVAL for the mounts of a zombie and EACCES for the links of who was reaped.
    pub fn while_it_lives<T>(
        &self,
        read: impl FnOnce(&Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        read(self).map_err(|error| match self.stat() {
            Ok(stat) if !stat.is_exiting() => error,
            _ => Error::Gone { pid: self.pid },
        })
    }

    /// Is it still there, be it as a zombie?
    fn is_alive(&self) -> bool {
        statat(&self.directory, "stat", AtFlags::empty()).is_ok()
            && self.read("stat", SMALL).is_ok()
    }

    fn file(&self, name: &str) -> Result<File, Error> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        openat(&self.directory, name, flags, Mode::empty())
            .map(File::from)
            .map_err(|errno| failure(self.pid, name, errno.into()))
    }

    fn read(&self, name: &str, most: u64) -> Result<Vec<u8>, Error> {
        head(self.file(name)?, most).map_err(|source| failure(self.pid, name, source))
    }

    fn lines(&self, name: &str, each: impl FnMut(&[u8]) -> io::Result<()>) -> Result<(), Error> {
        each_line(BufReader::new(self.file(name)?), each)
            .map_err(|source| failure(self.pid, name, source))
    }

    fn link(&self, name: &str) -> Result<PathBuf, Error> {
        fd::link(self.directory.as_fd(), name).map_err(|source| failure(self.pid, name, source))
    }

    fn strange(&self, what: &str) -> Error {
        failure(self.pid, what, io::ErrorKind::InvalidData.into())
    }

    fn too_long(&self, what: &str) -> Error {
        failure(self.pid, what, io::ErrorKind::FileTooLarge.into())
    }
}

/// Every process of this `/proc`, by number.
pub fn all() -> Result<Vec<u32>, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, "/proc", flags, Mode::empty())
        .map_err(io::Error::from)
        .and_then(|directory| numbers(&directory))
        .map_err(|source| Error::Kernel {
            what: "the list of processes",
            source,
        })
}

/// When the machine started, in milliseconds since 1970, as the kernel tells it: in whole seconds.
pub fn boot_time() -> Result<u64, Error> {
    let mut seconds = None;
    let file = File::open("/proc/stat");
    file.and_then(|file| {
        each_line(BufReader::new(file), |line| {
            if let Some(value) = line.strip_prefix(b"btime ") {
                seconds = text::<u64>(value);
            }
            Ok(())
        })
    })
    .and_then(|()| seconds.ok_or_else(|| io::ErrorKind::InvalidData.into()))
    .map(|seconds| seconds.saturating_mul(1000))
    .map_err(|source| Error::Kernel {
        what: "the time when the machine started",
        source,
    })
}

/// The entries of a directory that are numbers.
fn numbers(directory: &OwnedFd) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in Dir::read_from(directory)? {
        numbers.extend(text::<u32>(entry?.file_name().to_bytes()));
    }
    Ok(numbers)
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOENT | Errno::SRCH)
    )
}

fn failure(pid: u32, what: &str, source: io::Error) -> Error {
    if is_gone(&source) {
        Error::Gone { pid }
    } else {
        Error::Read {
            pid,
            what: what.to_owned(),
            source,
        }
    }
}
