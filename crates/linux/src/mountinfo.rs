//! The mounts of a mount namespace, as `/proc/PID/mountinfo` has them, and the detaching of those
//! below a directory.
//!
//! A line is `ID PARENT DEVICE ROOT POINT OPTIONS [FIELD]... - TYPE SOURCE OPTIONS`
//! (proc_pid_mountinfo(5)), with blanks, line ends and backslashes in octal.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use rustix::{
    io::Errno,
    mount::{UnmountFlags, unmount},
};

use crate::lines::{each_line, text, unescape};

/// The list of the calling thread, whose mount namespace may be its own.
pub(crate) const OWN: &str = "/proc/thread-self/mountinfo";

/// A mount of a mount namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its number, by which `fdinfo` names it.
    pub id: u32,
    /// The number of the mount that it is on.
    pub parent: u32,
    /// The device, first half.
    pub major: u32,
    /// The device, second half.
    pub minor: u32,
    /// What of the file system is mounted.
    pub root: PathBuf,
    /// Where, as the process sees it.
    pub mount_point: PathBuf,
    /// The options of the mount, not of its file system.
    pub options: String,
    /// The type of the file system.
    pub fs_type: String,
    /// What is mounted: a device, or a word.
    pub source: PathBuf,
    /// The options of the file system, not of the mount.
    pub fs_options: String,
}

/// Why mounts could not be detached.
#[derive(Debug, thiserror::Error)]
pub enum DetachError {
    /// The list of mounts cannot be read.
    #[error("cannot read {OWN}")]
    List(#[source] io::Error),
    /// A mount stays.
    #[error("cannot unmount {point}", point = point.display())]
    Unmount {
        /// Where it is.
        point: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The mounts of the calling thread, in the order in which they were made. A line that cannot be
/// understood is passed over: what is to be detached must not stay because of a stranger's mount.
///
/// # Errors
/// If the list cannot be read.
pub fn mounts() -> io::Result<Vec<Mount>> {
    read(BufReader::new(File::open(OWN)?))
}

/// The mounts of a list.
pub(crate) fn read(list: impl BufRead) -> io::Result<Vec<Mount>> {
    let mut mounts = Vec::new();
    each_line(list, |line| {
        mounts.extend(Mount::parse(line));
        Ok(())
    })?;
    Ok(mounts)
}

/// Detaches every mount at `directory` and below it. What a process still uses stays for it alone.
/// No link is followed in the last part of the path, nor to a mount below it.
///
/// # Errors
/// If the system refuses, for another reason than that nothing is mounted there.
pub fn detach_below(directory: &Path) -> Result<(), DetachError> {
    let Some(directory) = resolve(directory) else {
        return Ok(());
    };
    let mounts = mounts().map_err(DetachError::List)?;
    let below = |mount: &Mount| mount.mount_point.starts_with(&directory);
    // The list has a mount before what is mounted on it or below it.
    for Mount { mount_point, .. } in mounts.into_iter().filter(below).rev() {
        // Lazily, since a process of the host may look into it at this moment, and not through
        // a link, which could have been put there by the container.
        match unmount(&mount_point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // Gone with one that it was below, or by somebody else's doing.
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(errno) => {
                return Err(DetachError::Unmount {
                    point: mount_point,
                    source: errno.into(),
                });
            }
        }
    }
    Ok(())
}

/// The path as the kernel lists it: absolute and without links on the way, `None` if the way does
/// not exist. The last part is not followed.
fn resolve(path: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(path).ok()?;
    let parent = absolute.parent()?.canonicalize().ok()?;
    Some(parent.join(absolute.file_name()?))
}

impl Mount {
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        let mut words = line.split(|&byte| byte == b' ');
        let id = text(words.next()?)?;
        let parent = text(words.next()?)?;
        let mut device = words.next()?.splitn(2, |&byte| byte == b':');
        let (major, minor) = (text(device.next()?)?, text(device.next()?)?);
        let root = unescape(words.next()?);
        let mount_point = unescape(words.next()?);
        let options = String::from_utf8_lossy(words.next()?).into_owned();
        // Any number of optional fields, then a dash.
        words.find(|word| *word == b"-")?;
        let fs_type = String::from_utf8_lossy(words.next()?).into_owned();
        let source = unescape(words.next()?);
        let fs_options = String::from_utf8_lossy(words.next()?).into_owned();
        Some(Self {
            id,
            parent,
            major,
            minor,
            root,
            mount_point,
            options,
            fs_type,
            source,
            fs_options,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_optional_fields_is_read() {
        let line = br"98 27 0:41 /a\040b /mnt/c\134d rw,relatime shared:1 master:2 - ext4 /dev/vda rw,errors=no";
        let mount = Mount::parse(line).unwrap();
        assert_eq!((mount.id, mount.parent), (98, 27));
        assert_eq!((mount.major, mount.minor), (0, 41));
        assert_eq!(mount.root, Path::new("/a b"));
        assert_eq!(mount.mount_point, Path::new(r"/mnt/c\d"));
        assert_eq!(mount.options, "rw,relatime");
        assert_eq!(mount.fs_type, "ext4");
        assert_eq!(mount.source, Path::new("/dev/vda"));
        assert_eq!(mount.fs_options, "rw,errors=no");
    }

    #[test]
    fn a_line_without_optional_fields_is_read() {
        let line = b"26 24 0:24 / /dev/pts rw,relatime - devpts devpts rw,mode=600,ptmxmode=000";
        assert_eq!(Mount::parse(line).unwrap().fs_type, "devpts");
        assert_eq!(Mount::parse(b"26 24 0:24 / /dev/pts rw,relatime"), None);
    }

    #[test]
    fn a_line_that_is_none_is_passed_over() {
        let list = b"37 36 0:5 / /proc rw - proc proc rw\na line that is none\n38 36 0:6 / /x rw - t s rw\n";
        let points = read(&list[..]).unwrap();
        let points: Vec<_> = points.iter().map(|mount| &*mount.mount_point).collect();
        assert_eq!(points, [Path::new("/proc"), Path::new("/x")]);
    }

    #[test]
    fn this_thread_has_a_root() {
        let mounts = mounts().unwrap();
        assert!(
            mounts
                .iter()
                .any(|mount| mount.mount_point == Path::new("/")),
            "{mounts:?}"
        );
    }

    #[test]
    fn where_nothing_is_mounted_there_is_nothing_to_detach() {
        let directory = tempfile::tempdir().unwrap();
        detach_below(directory.path()).unwrap();
        detach_below(Path::new("/no/such/directory")).unwrap();
    }
}
