//! Mounts and the root that they are under.

use std::path::PathBuf;

use super::{
    Options,
    check::{absolute, directory},
    error::OptionError,
    table::{DUMPS, DUMPS_AND_RESTORE, Key, RESTORE, Release, Row, flag, text, texts},
};
use crate::setters::setters;

pub(super) const ROWS: &[Row] = &[
    text!(
        13,
        root,
        Key::Named("root"),
        Release::new(1, 2, 0),
        DUMPS_AND_RESTORE,
        mounts.root
    ),
    flag!(
        28,
        auto_ext_mnt,
        Key::None("there is no such key; `external=mnt[]` is the same"),
        Release::new(1, 6, 0),
        DUMPS_AND_RESTORE,
        mounts.auto_ext_mnt
    ),
    flag!(
        29,
        ext_sharing,
        Key::Named("enable-external-sharing"),
        Release::new(1, 6, 0),
        DUMPS,
        mounts.ext_sharing
    ),
    flag!(
        30,
        ext_masters,
        Key::Named("enable-external-masters"),
        Release::new(1, 6, 0),
        DUMPS,
        mounts.ext_masters
    ),
    texts!(
        31,
        skip_mnt,
        Key::Named("skip-mnt"),
        Release::new(1, 6, 0),
        DUMPS,
        mounts.skip
    ),
    texts!(
        32,
        enable_fs,
        Key::Named("enable-fs"),
        Release::new(1, 6, 0),
        DUMPS_AND_RESTORE,
        mounts.enable_fs
    ),
    flag!(
        65,
        mntns_compat_mode,
        Key::Exclusive {
            key: "mntns-compat-mode",
            harm: "CRIU refuses whatever is no restore",
        },
        Release::new(3, 17, 0),
        RESTORE,
        mounts.mntns_compat_mode
    ),
];

/// Set by the setters below.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Mounts {
    pub(super) root: Option<PathBuf>,
    pub(super) auto_ext_mnt: bool,
    pub(super) ext_sharing: bool,
    pub(super) ext_masters: bool,
    pub(super) skip: Vec<PathBuf>,
    pub(super) enable_fs: Vec<String>,
    pub(super) mntns_compat_mode: bool,
}

/// Mounts.
///
/// ```
/// use stasis_criu::{Options, options::External};
///
/// let options = Options::new("/var/lib/images")
///     .root("/run/bundle/rootfs")
///     .external(External::mount("/etc/hosts", "hosts"))
///     .skip_mnt("/sys/firmware");
/// ```
impl Options {
    setters! {
        /// The directory that is `/` to the processes, `root`.
        pub fn root(mut self, directory: impl Into<PathBuf>) {
            self.mounts.root = Some(directory.into());
        }

        /// Finds external bind mounts by itself, `auto_ext_mnt`.
        pub fn auto_ext_mnt(mut self, set: bool) { self.mounts.auto_ext_mnt = set; }

        /// Takes mounts as external that are shared with outside, `ext_sharing`.
        pub fn ext_sharing(mut self, set: bool) { self.mounts.ext_sharing = set; }

        /// Takes mounts as external that are slaves of outside, `ext_masters`.
        pub fn ext_masters(mut self, set: bool) { self.mounts.ext_masters = set; }

        /// Leaves out what is mounted here, `skip_mnt`.
        pub fn skip_mnt(mut self, mountpoint: impl Into<PathBuf>) {
            self.mounts.skip.push(mountpoint.into());
        }

        /// Mounts file systems of this type anew though CRIU does not know them, `enable_fs`; `all`
        /// for any.
        pub fn enable_fs(mut self, name: impl Into<String>) {
            self.mounts.enable_fs.push(name.into());
        }

        /// Restores mounts as CRIU did before 3.17, `mntns_compat_mode`.
        pub fn mntns_compat_mode(mut self, set: bool) { self.mounts.mntns_compat_mode = set; }
    }
}

pub(super) fn check(options: &Options) -> Result<(), OptionError> {
    let mounts = &options.mounts;
    if let Some(root) = &mounts.root {
        directory("root", root)?;
    }
    for mountpoint in &mounts.skip {
        absolute("skip_mnt", mountpoint)?;
    }
    for name in &mounts.enable_fs {
        if name.is_empty() || name.contains([',', '/', ' ', '\t', '\n', '\0']) {
            let reason = "it is no name of a file system; name each on its own";
            return Err(OptionError::value("enable_fs", name, reason));
        }
    }
    Ok(())
}
