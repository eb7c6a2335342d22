//! `/proc/PID/fd/N` and `/proc/PID/fdinfo/N`: what a descriptor is of.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::{
        fd::BorrowedFd,
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags, makedev, openat, readlinkat, statx};

use crate::{file::head, lines::text};

/// What is read of an fdinfo: the common fields come first, and an epoll's or inotify's go on and
/// on.
const INFO: u64 = 4 << 10;

/// What the kernel calls an instance of io_uring.
pub const IO_URING: &str = "anon_inode:[io_uring]";

/// The device of `/dev/ptmx`, through which every master is opened.
const PTMX: u64 = 5 << 8 | 2;

/// An open file of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenFile {
    /// Its number.
    pub fd: u32,
    /// What the kernel calls it: a path, or `pipe:[5]` and the like.
    pub path: PathBuf,
    /// What it is.
    pub kind: FileKind,
    /// Its access mode and status flags, as fcntl(2) has them.
    pub flags: u32,
    /// The mount that it was opened over.
    pub mount_id: Option<u32>,
    /// Its inode.
    pub inode: u64,
    /// The device of its file system.
    pub device: u64,
    /// The device that it is, if it is one.
    pub rdev: u64,
    /// For the master side of a pseudoterminal, the number of the terminal.
    pub master_of: Option<u32>,
}

/// What an open file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileKind {
    /// A file with contents.
    Regular,
    /// A directory.
    Directory,
    /// A character device that is no terminal.
    Character,
    /// A terminal, or the master side of one.
    Terminal,
    /// A block device.
    Block,
    /// A FIFO with a name.
    Fifo,
    /// A pipe without one.
    Pipe,
    /// A socket.
    Socket,
    /// Memory as a file.
    Memory,
    /// A namespace.
    Namespace,
    /// An instance of io_uring.
    IoUring,
    /// What else has no inode of its own: epoll, eventfd, timerfd, pidfd ...
    Anonymous,
}

impl OpenFile {
    /// Was it opened by a path, over some mount?
    #[must_use]
    pub fn has_path(&self) -> bool {
        match self.kind {
            FileKind::Regular
            | FileKind::Directory
            | FileKind::Character
            | FileKind::Terminal
            | FileKind::Block
            | FileKind::Fifo => true,
            FileKind::Pipe
            | FileKind::Socket
            | FileKind::Memory
            | FileKind::Namespace
            | FileKind::IoUring
            | FileKind::Anonymous => false,
        }
    }

    /// If it is the terminal side of a pseudoterminal, the number of that.
    #[must_use]
    pub fn terminal_number(&self) -> Option<u32> {
        let major = rustix::fs::major(self.rdev);
        (self.kind == FileKind::Terminal && UNIX98_SLAVES.contains(&major))
            .then(|| (major - UNIX98_SLAVES.start()) * 256 + rustix::fs::minor(self.rdev))
    }
}

/// The majors of pseudoterminals (the kernel's devices.txt).
const UNIX98_SLAVES: std::ops::RangeInclusive<u32> = 136..=143;

/// The majors of terminals: virtual and serial, `/dev/tty` and `/dev/console`, pseudoterminals.
fn is_terminal(rdev: u64) -> bool {
    let major = rustix::fs::major(rdev);
    major == 4 || UNIX98_SLAVES.contains(&major) || (major == 5 && rustix::fs::minor(rdev) <= 2)
}

/// Reads what descriptor `fd` is of, in the directories `fd` and `fdinfo` of a process.
pub(super) fn read(links: BorrowedFd<'_>, infos: BorrowedFd<'_>, fd: u32) -> io::Result<OpenFile> {
    let name = fd.to_string();
    let path = link(links, &name)?;
    // Not synchronised with a server: a file of one that is away would hold us up.
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    let wanted = StatxFlags::TYPE | StatxFlags::INO;
    let stat = statx(links, &name, flags, wanted)?;
    let rdev = makedev(stat.stx_rdev_major, stat.stx_rdev_minor);
    let info = openat(
        infos,
        &name,
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let info = Info::parse(&head(File::from(info), INFO)?).ok_or(io::ErrorKind::InvalidData)?;
    Ok(OpenFile {
        fd,
        kind: kind(&path, u32::from(stat.stx_mode), rdev),
        flags: info.flags,
        mount_id: info.mount_id,
        inode: stat.stx_ino,
        device: makedev(stat.stx_dev_major, stat.stx_dev_minor),
        rdev,
        master_of: info.terminal.filter(|_| rdev == PTMX),
        path,
    })
}

/// Where a link leads, in at most a page.
pub(super) fn link(directory: BorrowedFd<'_>, name: &str) -> io::Result<PathBuf> {
    let target = readlinkat(directory, name, Vec::new())?;
    Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
}

/// Does a path as the kernel gives it begin so?
fn begins(path: &Path, prefix: &str) -> bool {
    OsStr::as_bytes(path.as_os_str()).starts_with(prefix.as_bytes())
}

fn kind(path: &Path, mode: u32, rdev: u64) -> FileKind {
    if begins(path, "anon_inode:") {
        return if path == Path::new(IO_URING) {
            FileKind::IoUring
        } else {
            FileKind::Anonymous
        };
    }
    if begins(path, "/memfd:") {
        return FileKind::Memory;
    }
    if !begins(path, "/") {
        return if begins(path, "pipe:[") {
            FileKind::Pipe
        } else if begins(path, "socket:[") {
            FileKind::Socket
        } else if NAMESPACES.iter().any(|prefix| begins(path, prefix)) {
            FileKind::Namespace
        } else {
            FileKind::Anonymous
        };
    }
    match FileType::from_raw_mode(mode) {
        FileType::Directory => FileKind::Directory,
        FileType::CharacterDevice if is_terminal(rdev) => FileKind::Terminal,
        FileType::CharacterDevice => FileKind::Character,
        FileType::BlockDevice => FileKind::Block,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        _ => FileKind::Regular,
    }
}

/// How the kernel calls namespaces.
const NAMESPACES: [&str; 8] = [
    "mnt:[", "net:[", "pid:[", "uts:[", "ipc:[", "user:[", "cgroup:[", "time:[",
];

/// What is used of an fdinfo.
#[derive(Debug, Default, PartialEq, Eq)]
struct Info {
    flags: u32,
    mount_id: Option<u32>,
    terminal: Option<u32>,
}

impl Info {
    fn parse(info: &[u8]) -> Option<Self> {
        let mut parsed = Self::default();
        let mut flagged = false;
        for line in info.split(|&byte| byte == b'\n') {
            let Some(colon) = line.iter().position(|&byte| byte == b':') else {
                continue;
            };
            let (name, value) = (line.get(..colon)?, line.get(colon + 1..)?);
            match name {
                b"flags" => {
                    let digits = std::str::from_utf8(value).ok()?.trim();
                    parsed.flags = u32::from_str_radix(digits, 8).ok()?;
                    flagged = true;
                }
                b"mnt_id" => parsed.mount_id = text(value),
                b"tty-index" => parsed.terminal = text(value),
                _ => {}
            }
        }
        flagged.then_some(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_fdinfo_tells_flags_mount_and_terminal() {
        let text = b"pos:\t0\nflags:\t02100002\nmnt_id:\t24\nino:\t91\ntty-index:\t7\n";
        assert_eq!(
            Info::parse(text).unwrap(),
            Info {
                flags: 0o2_100_002,
                mount_id: Some(24),
                terminal: Some(7),
            }
        );
        assert_eq!(Info::parse(b"pos:\t0\n"), None);
        assert_eq!(Info::parse(b"flags:\t9\n"), None);
    }

    #[test]
    fn a_file_is_known_by_its_name_first() {
        let regular = 0o100_600;
        for (path, expected) in [
            ("anon_inode:[io_uring]", FileKind::IoUring),
            ("anon_inode:[eventpoll]", FileKind::Anonymous),
            ("anon_inode:inotify", FileKind::Anonymous),
            ("/memfd:x (deleted)", FileKind::Memory),
            ("pipe:[4]", FileKind::Pipe),
            ("socket:[4]", FileKind::Socket),
            ("net:[4026531840]", FileKind::Namespace),
            ("/anon_inode:[io_uring]", FileKind::Regular),
        ] {
            assert_eq!(kind(Path::new(path), regular, 0), expected, "{path}");
        }
    }

    #[test]
    fn terminals_are_known_by_their_device() {
        let character = 0o020_620;
        for (major, minor, expected) in [
            (136, 3, FileKind::Terminal),
            (5, 0, FileKind::Terminal),
            (5, 2, FileKind::Terminal),
            (4, 64, FileKind::Terminal),
            (1, 3, FileKind::Character),
            (5, 3, FileKind::Character),
        ] {
            let found = kind(Path::new("/dev/x"), character, makedev(major, minor));
            assert_eq!(found, expected, "{major}:{minor}");
        }
    }

    #[test]
    fn the_number_of_a_terminal_spans_majors() {
        let file = OpenFile {
            fd: 0,
            path: PathBuf::from("/dev/pts/300"),
            kind: FileKind::Terminal,
            flags: 2,
            mount_id: Some(26),
            inode: 303,
            device: 24,
            rdev: makedev(137, 44),
            master_of: None,
        };
        assert_eq!(file.terminal_number(), Some(300));
    }
}
