//! Open files: deleted ones, locks, devices, and those that a restore is given.

use std::path::PathBuf;

use super::{
    Options,
    check::absolute,
    dir::Descriptor,
    error::OptionError,
    table::{By, DUMPS, DUMPS_AND_RESTORE, Given, Key, RESTORE, Release, Row, flag, texts},
};
use crate::setters::setters;

pub(super) const ROWS: &[Row] = &[
    flag!(
        4,
        ext_unix_sk,
        Key::Named("ext-unix-sk"),
        Release::new(0, 8, 0),
        DUMPS_AND_RESTORE,
        files.ext_unix_sk
    ),
    flag!(
        6,
        evasive_devices,
        Key::Named("evasive-devices"),
        Release::new(0, 8, 0),
        DUMPS,
        files.evasive_devices
    ),
    flag!(
        8,
        file_locks,
        Key::Named("file-locks"),
        Release::new(0, 8, 0),
        DUMPS_AND_RESTORE,
        files.file_locks
    ),
    flag!(
        18,
        link_remap,
        Key::Named("link-remap"),
        Release::new(1, 2, 0),
        DUMPS,
        files.link_remap
    ),
    flag!(
        21,
        force_irmap,
        Key::Named("force-irmap"),
        Release::new(1, 3, 0),
        DUMPS,
        files.force_irmap
    ),
    texts!(
        36,
        irmap_scan_paths,
        Key::Named("irmap-scan-path"),
        Release::new(1, 8, 0),
        DUMPS,
        files.irmap_scan_paths
    ),
    Row {
        number: 35,
        name: "ghost_limit",
        since: Release::new(1, 7, 0),
        requests: DUMPS,
        key: Key::Named("ghost-limit"),
        by: By::Setter {
            given: |o| Given::one(o.files.ghost_limit.map(|limit| limit.0.to_string())),
            put: |o, rpc| rpc.ghost_limit = o.files.ghost_limit.map(|limit| limit.0),
        },
    },
    Row {
        number: 27,
        name: "inherit_fd",
        since: Release::new(1, 5, 1),
        requests: RESTORE,
        key: Key::None("its descriptors are the client's"),
        by: By::Descriptor {
            given: |o| Given::descriptor(!o.files.inherited.is_empty()),
        },
    },
    flag!(
        66,
        skip_file_rwx_check,
        Key::Named("skip-file-rwx-check"),
        Release::new(3, 18, 0),
        RESTORE,
        files.skip_file_rwx_check
    ),
];

/// Set by the setters below.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Files {
    pub(super) ext_unix_sk: bool,
    pub(super) evasive_devices: bool,
    pub(super) file_locks: bool,
    pub(super) link_remap: bool,
    pub(super) force_irmap: bool,
    pub(super) irmap_scan_paths: Vec<PathBuf>,
    pub(super) ghost_limit: Option<GhostLimit>,
    pub(super) inherited: Vec<InheritedFd>,
    pub(super) skip_file_rwx_check: bool,
}

/// Open files.
///
/// ```
/// use std::fs::File;
/// use stasis_criu::{Options, options::{GhostLimit, InheritedFd}};
///
/// let dump = Options::new("/var/lib/images")
///     .file_locks(true)
///     .link_remap(true)
///     .ghost_limit(GhostLimit::bytes(64 << 20));
/// let restore = Options::new("/var/lib/images")
///     .file_locks(true)
///     .inherit_fd(InheritedFd::new("pipe:[4711]", File::open("/dev/null")?));
/// # Ok::<(), std::io::Error>(())
/// ```
impl Options {
    setters! {
        /// Unix sockets whose other end is outside of the tree, `ext_unix_sk`: datagram sockets and
        /// listeners are dumped, and connected again by their path.
        pub fn ext_unix_sk(mut self, set: bool) { self.files.ext_unix_sk = set; }

        /// Finds a device file that has moved by what else leads to it, `evasive_devices`.
        pub fn evasive_devices(mut self, set: bool) { self.files.evasive_devices = set; }

        /// Dumps and takes file locks, `file_locks`: only if nobody outside of the tree holds them.
        pub fn file_locks(mut self, set: bool) { self.files.file_locks = set; }

        /// Gives deleted files that have other hard links a name for the time being, `link_remap`.
        pub fn link_remap(mut self, set: bool) { self.files.link_remap = set; }

        /// Looks for what inotify and fanotify watch by walking the file system, `force_irmap`.
        pub fn force_irmap(mut self, set: bool) { self.files.force_irmap = set; }

        /// Also walk this directory for it, `irmap_scan_paths`.
        pub fn irmap_scan_path(mut self, directory: impl Into<PathBuf>) {
            self.files.irmap_scan_paths.push(directory.into());
        }

        /// The most that a deleted file that goes into the image may take on disk, `ghost_limit`: 1
        /// MiB if it is not set.
        pub fn ghost_limit(mut self, limit: GhostLimit) { self.files.ghost_limit = Some(limit); }

        /// Gives the restored processes this descriptor for one of theirs, `inherit_fd`.
        pub fn inherit_fd(mut self, inherited: InheritedFd) {
            self.files.inherited.push(inherited);
        }

        /// Restores files whose permissions are no longer what they were, `skip_file_rwx_check`.
        pub fn skip_file_rwx_check(mut self, set: bool) { self.files.skip_file_rwx_check = set; }
    }

    /// Whether `ext_unix_sk` is set.
    pub fn takes_ext_unix_sk(&self) -> bool {
        self.files.ext_unix_sk
    }

    /// Whether `file_locks` is set.
    pub fn takes_file_locks(&self) -> bool {
        self.files.file_locks
    }

    /// As [`inherit_fd`](Self::inherit_fd), unless there is one for the same key already.
    #[must_use]
    pub fn inherit_fd_unless_given(self, inherited: InheritedFd) -> Self {
        let mut given = self.files.inherited.iter();
        match given.any(|given| given.key == inherited.key) {
            true => self,
            false => self.inherit_fd(inherited),
        }
    }
}

/// A size in bytes that the message can carry: less than 4 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GhostLimit(u32);

impl GhostLimit {
    /// So many bytes.
    #[must_use]
    pub const fn bytes(bytes: u32) -> Self {
        Self(bytes)
    }
}

impl TryFrom<u64> for GhostLimit {
    type Error = OptionError;

    fn try_from(bytes: u64) -> Result<Self, OptionError> {
        let reason = "CRIU's RPC carries it in 32 bits; the most is 4294967295";
        match u32::try_from(bytes) {
            Ok(bytes) => Ok(Self(bytes)),
            Err(_) => Err(OptionError::value("ghost_limit", bytes, reason)),
        }
    }
}

/// A descriptor for the restored processes, and which of theirs it becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InheritedFd {
    pub(super) key: String,
    pub(super) fd: Descriptor,
}

impl InheritedFd {
    /// The key is what CRIU calls the file: `pipe:[4711]`, `socket:[4711]`, `tty[8801:18]`,
    /// `file[2a:99]`, a path without its first slash, or the name of an external namespace.
    #[must_use]
    pub fn new(key: impl Into<String>, fd: impl Into<Descriptor>) -> Self {
        Self {
            key: key.into(),
            fd: fd.into(),
        }
    }
}

pub(super) fn check(options: &Options) -> Result<(), OptionError> {
    let files = &options.files;
    for path in &files.irmap_scan_paths {
        absolute("irmap_scan_paths", path)?;
    }
    for (place, inherited) in files.inherited.iter().enumerate() {
        let key = &inherited.key;
        if key.is_empty() || key.starts_with('/') || key.contains('\0') {
            let reason = "the key is CRIU's name for the file, for a path without its first slash";
            return Err(OptionError::value("inherit_fd", key, reason));
        }
        if files
            .inherited
            .iter()
            .take(place)
            .any(|other| other.key == *key)
        {
            let reason = "CRIU takes only one of several descriptors for the same key";
            return Err(OptionError::value("inherit_fd", key, reason));
        }
    }
    Ok(())
}
