//! A line of `/proc/PID/mountinfo`.

use std::path::PathBuf;

use super::{text, unescape};

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
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_line_with_optional_fields_is_read() {
        let line = br"98 27 0:41 /a\040b /mnt/x rw,relatime shared:1 master:2 - ext4 /dev/vda rw";
        let mount = Mount::parse(line).unwrap();
        assert_eq!((mount.id, mount.parent), (98, 27));
        assert_eq!((mount.major, mount.minor), (0, 41));
        assert_eq!(mount.root, Path::new("/a b"));
        assert_eq!(mount.mount_point, Path::new("/mnt/x"));
        assert_eq!(mount.options, "rw,relatime");
        assert_eq!(mount.fs_type, "ext4");
        assert_eq!(mount.source, Path::new("/dev/vda"));
    }

    #[test]
    fn a_line_without_optional_fields_is_read() {
        let line = b"26 24 0:24 / /dev/pts rw,relatime - devpts devpts rw,mode=600,ptmxmode=000";
        assert_eq!(Mount::parse(line).unwrap().fs_type, "devpts");
        assert_eq!(Mount::parse(b"26 24 0:24 / /dev/pts rw,relatime"), None);
    }
}
