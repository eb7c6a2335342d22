//! `/proc/self/mountinfo`, and the removal of mounts that a killed program left.
//!
//! A line is `ID PARENT DEVICE ROOT MOUNT OPTIONS [FIELD]... - TYPE SOURCE OPTIONS`
//! (proc_pid_mountinfo(5)), with blanks and backslashes in octal.

use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, umount2};

use crate::error::{Error, Result};

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// One mount, as this process sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// What of its file system is seen.
    pub(crate) root: PathBuf,
    /// Where it is seen.
    pub(crate) point: PathBuf,
    /// The type of its file system.
    pub(crate) kind: String,
    /// The options of its file system, not those of the mount.
    pub(crate) options: String,
}

/// All mounts, in the order in which they were made.
pub(crate) fn mounts() -> Result<Vec<Mount>> {
    let text = fs::read(MOUNTINFO).map_err(Error::io("read", MOUNTINFO))?;
    Ok(parse(&text))
}

/// Detaches every mount at and below `directories`. No link on the way is followed.
pub(crate) fn detach_below(directories: &[&Path]) -> Result<()> {
    let is_below = |mount: &Mount| directories.iter().any(|top| mount.point.starts_with(top));
    let below = mounts()?.into_iter().filter(is_below);
    let points: Vec<_> = below.map(|mount| mount.point).collect();
    for point in points.iter().rev() {
        umount2(point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
            .map_err(|error| Error::io("unmount", point)(error.into()))?;
    }
    Ok(())
}

pub(crate) fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|&byte| byte == b'\n').filter_map(line).collect()
}

fn line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let root = path(fields.nth(3)?);
    let point = path(fields.next()?);
    let mut fields = fields.skip_while(|&field| field != b"-").skip(1);
    let mut text = |skipped| Some(String::from_utf8_lossy(fields.nth(skipped)?).into_owned());
    Some(Mount {
        root,
        point,
        kind: text(0)?,
        options: text(1)?,
    })
}

fn path(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = after
            .first_chunk::<3>()
            .filter(|_| byte == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        rest = if escaped.is_some() {
            &after[3..]
        } else {
            after
        };
        bytes.push(escaped.unwrap_or(byte));
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_with_and_without_optional_fields() {
        let text = b"36 35 98:0 /a\\040b /mnt/c\\134d rw,noatime shared:1 master:2 - ext4 /dev/x rw,errors=no\n\
            37 36 0:5 / /proc rw - proc proc rw\n\
            a line that is none\n";
        let [first, second] = parse(text).try_into().expect("two mounts");
        assert_eq!(
            (first.root, first.point),
            ("/a b".into(), "/mnt/c\\d".into())
        );
        assert_eq!(
            (first.kind, first.options),
            ("ext4".to_owned(), "rw,errors=no".to_owned())
        );
        assert_eq!(second.point, Path::new("/proc"));
    }

    #[test]
    fn this_process_has_a_root() {
        let mounts = mounts().expect("read");
        assert!(
            mounts.iter().any(|mount| mount.point == Path::new("/")),
            "{mounts:?}"
        );
    }
}
