//! fstab-style mount options, as the flags and the data of mount(2).

use std::path::{Path, PathBuf};

use nix::mount::MsFlags;

/// The flags that belong to a mount and not to its file system, which a bind mount needs a
/// second call for.
pub(super) const PER_MOUNT: MsFlags = MsFlags::MS_RDONLY
    .union(MsFlags::MS_NOSUID)
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOEXEC)
    .union(MsFlags::MS_NOATIME)
    .union(MsFlags::MS_NODIRATIME)
    .union(MsFlags::MS_RELATIME)
    .union(MsFlags::MS_STRICTATIME);

/// Options that set a flag, and those that clear it again.
const FLAGS: [(&str, bool, MsFlags); 25] = [
    ("async", false, MsFlags::MS_SYNCHRONOUS),
    ("atime", false, MsFlags::MS_NOATIME),
    ("bind", true, MsFlags::MS_BIND),
    ("defaults", true, MsFlags::empty()),
    ("dev", false, MsFlags::MS_NODEV),
    ("diratime", false, MsFlags::MS_NODIRATIME),
    ("dirsync", true, MsFlags::MS_DIRSYNC),
    ("exec", false, MsFlags::MS_NOEXEC),
    ("mand", true, MsFlags::MS_MANDLOCK),
    ("noatime", true, MsFlags::MS_NOATIME),
    ("nodev", true, MsFlags::MS_NODEV),
    ("nodiratime", true, MsFlags::MS_NODIRATIME),
    ("noexec", true, MsFlags::MS_NOEXEC),
    ("nomand", false, MsFlags::MS_MANDLOCK),
    ("norelatime", false, MsFlags::MS_RELATIME),
    ("nostrictatime", false, MsFlags::MS_STRICTATIME),
    ("nosuid", true, MsFlags::MS_NOSUID),
    ("rbind", true, MsFlags::MS_BIND.union(MsFlags::MS_REC)),
    ("relatime", true, MsFlags::MS_RELATIME),
    ("ro", true, MsFlags::MS_RDONLY),
    ("rw", false, MsFlags::MS_RDONLY),
    ("strictatime", true, MsFlags::MS_STRICTATIME),
    ("suid", false, MsFlags::MS_NOSUID),
    ("sync", true, MsFlags::MS_SYNCHRONOUS),
    ("silent", true, MsFlags::MS_SILENT),
];

/// Options that name work which mount(2) does not do, and what that is. As data the kernel would
/// ignore them for a bind mount.
const FOREIGN: [(&str, &str); 6] = [
    ("loop", "it needs a loop device"),
    ("uidmap=", "it is id-mapped"),
    ("gidmap=", "it is id-mapped"),
    ("remount", "it changes a mount that is there"),
    ("X-containerd.", "it is for containerd's mount manager"),
    ("x-containerd.", "it is for containerd's mount manager"),
];

/// What the kernel takes of mount options: one page, with the final NUL.
pub(super) const MAX_DATA: usize = 4095;

const LOWERDIR: &str = "lowerdir=";

/// Options, split the way mount(2) wants them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) flags: MsFlags,
    /// What is for the file system, separated by commas.
    pub(super) data: String,
}

impl Options {
    /// The error says what about the options is not supported.
    pub(super) fn parse(options: &[String]) -> Result<Self, String> {
        let mut flags = MsFlags::empty();
        let mut data: Vec<&str> = Vec::new();
        for option in options {
            if let Some((_, sets, flag)) = FLAGS.iter().find(|(name, ..)| name == option) {
                flags.set(*flag, *sets);
            } else if let Some(what) = foreign(option) {
                return Err(format!("with the option {option:?} {what}"));
            } else {
                data.push(option);
            }
        }
        Ok(Self {
            flags,
            data: data.join(","),
        })
    }

    /// Makes the lower directories of an overlay relative to the directory that they have in
    /// common, and returns that directory: each of them repeats it otherwise.
    pub(super) fn shorten_lowerdir(&mut self) -> Option<PathBuf> {
        // A backslash escapes a colon in a name, which would then be taken for a separator.
        if self.data.contains('\\') {
            return None;
        }
        let start = self.data.find(LOWERDIR).filter(|at| {
            // Not the end of another option's name.
            *at == 0 || self.data.as_bytes()[at - 1] == b','
        })? + LOWERDIR.len();
        let end = self.data[start..]
            .find(',')
            .map_or(self.data.len(), |at| start + at);
        let layers: Vec<&Path> = self.data[start..end].split(':').map(Path::new).collect();
        let common = common_directory(&layers)?;
        let relative: Option<Vec<&str>> = layers
            .iter()
            .map(|layer| layer.strip_prefix(&common).ok()?.to_str())
            .collect();
        let relative = relative?.join(":");
        self.data.replace_range(start..end, &relative);
        Some(common)
    }
}

fn foreign(option: &str) -> Option<&'static str> {
    FOREIGN
        .iter()
        .find(|(name, _)| {
            option.strip_prefix(name).is_some_and(|rest| {
                rest.is_empty() || name.ends_with(['=', '.']) || rest.starts_with('=')
            })
        })
        .map(|(_, what)| *what)
}

/// The deepest directory that every path is below, unless that is the root directory.
fn common_directory(paths: &[&Path]) -> Option<PathBuf> {
    let (first, rest) = paths.split_first()?;
    first
        .ancestors()
        .skip(1)
        .find(|ancestor| {
            rest.iter()
                .all(|path| path != ancestor && path.starts_with(ancestor))
        })
        .filter(|common| common.is_absolute() && common.parent().is_some())
        .map(Path::to_owned)
}
