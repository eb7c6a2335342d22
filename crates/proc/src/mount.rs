//! A mount of a container's rootfs, as a client asks for it. Mounting is the shim's.

/// One mount, in the words of containerd's `Mount` message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mount {
    /// The file system: `overlay`, `bind`, `ext4` and so on.
    pub fs_type: String,
    /// What is mounted: a directory, a device, or a name without meaning.
    pub source: String,
    /// Where, below the rootfs; the rootfs itself if empty.
    pub target: String,
    /// Options in the manner of fstab(5).
    pub options: Vec<String>,
}
