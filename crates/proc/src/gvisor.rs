//! What gVisor's package `proc` has (`pkg/shim/v1/proc`) and this shim has no use for: for those
//! who know that package, and for the tests. The table in the README tells the rest.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

pub use stasis_engine::Runsc;

use crate::{exec::Exec, init::Init};

/// Where gVisor's shim, and so ours, lets runsc keep its state unless told otherwise. The
/// namespace is appended.
pub const DEFAULT_ROOT: &str = "/run/containerd/runsc";

/// A mount of a container's rootfs, which is the shim's to make, in the words of containerd's `Mount` message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RootfsMount {
    /// The file system: `overlay`, `bind`, `ext4` and so on.
    pub fs_type: String,
    /// What is mounted: a directory, a device, or a name without meaning.
    pub source: String,
    /// Where, below the rootfs; the rootfs itself if empty.
    pub target: String,
    /// Options in the manner of fstab(5).
    pub options: Vec<String>,
}

impl Init {
    /// The root of its file system, which the shim mounts.
    #[must_use]
    pub fn rootfs(&self) -> PathBuf {
        self.config.bundle.join("rootfs")
    }

    /// Where files of it go that are none of the bundle's.
    #[must_use]
    pub fn work_dir(&self) -> &Path {
        &self.config.work_dir
    }

    /// Whether it is the sandbox of a pod, or a container of its own.
    #[must_use]
    pub fn sandbox(&self) -> bool {
        self.config.sandbox
    }

    /// Where runsc writes what it has to say to the container's user.
    #[must_use]
    pub fn user_log(&self) -> Option<&Path> {
        self.config.user_log.as_deref()
    }

    /// The user that owns the container's ends of its streams.
    #[must_use]
    pub fn io_uid(&self) -> u32 {
        self.config.io_uid
    }

    /// The group that owns the container's ends of its streams.
    #[must_use]
    pub fn io_gid(&self) -> u32 {
        self.config.io_gid
    }
}

impl Exec {
    /// The container's init process.
    #[must_use]
    pub fn parent(&self) -> &Arc<Init> {
        &self.parent
    }
}
