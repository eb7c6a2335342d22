//! The kernel's list of mounts (proc_pid_mountinfo(5)).

use std::{ffi::OsString, fs, io, os::unix::ffi::OsStringExt, path::PathBuf};

/// Reads the list of the calling thread, whose mount namespace may be its own.
pub fn read() -> io::Result<Vec<u8>> {
    fs::read("/proc/thread-self/mountinfo")
}

/// Where the hierarchies of cgroup v1 and v2 are mounted, by the list.
pub fn cgroup_mounts(mountinfo: &[u8]) -> impl Iterator<Item = PathBuf> {
    entries(mountinfo)
        .filter(|entry| matches!(entry.kind, b"cgroup" | b"cgroup2"))
        .map(|entry| unescape(entry.point))
}

/// The mount points of the list, in its order.
pub fn mount_points(mountinfo: &[u8]) -> impl DoubleEndedIterator<Item = PathBuf> {
    entries(mountinfo).map(|entry| unescape(entry.point))
}

/// A line of the list, as far as we care.
struct Entry<'a> {
    point: &'a [u8],
    kind: &'a [u8],
}

fn entries(mountinfo: &[u8]) -> impl DoubleEndedIterator<Item = Entry<'_>> {
    mountinfo.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let point = fields.nth(4)?;
        // Behind the mount options come any number of optional fields, and a dash ends them.
        fields.find(|field| *field == b"-")?;
        Some(Entry {
            point,
            kind: fields.next()?,
        })
    })
}

/// Undoes the escapes of the list: space, tab, newline and backslash stand there in octal.
fn unescape(field: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        match (first, octal(after)) {
            (b'\\', Some(byte)) => {
                path.push(byte);
                rest = &after[3..];
            }
            _ => {
                path.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(path).into()
}

fn octal(digits: &[u8]) -> Option<u8> {
    let digits = digits.get(..3)?;
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}
