//! The options of a checkpoint, in engine-neutral terms.
//!
//! They come from the request, the configuration file and, at a restore, from the image's
//! manifest: hence the serde names, which are those of the `[checkpoint]` table and of
//! `stasis.json`.

use serde::{Deserialize, Serialize};

/// How a container is captured; a restore needs the same again.
///
/// The names are CRIU's. What an engine cannot honour is refused by
/// [`crate::Engine::check_options`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointOptions {
    /// Capture established TCP connections (`tcp-established`).
    pub tcp_established: bool,
    /// Capture Unix sockets whose peer is outside the container (`ext-unix-sk`).
    pub ext_unix_sk: bool,
    /// Capture a process that is attached to a terminal of the outside (`shell-job`).
    pub shell_job: bool,
    /// Capture file locks (`file-locks`).
    pub file_locks: bool,
    /// How CRIU treats cgroups (`manage-cgroups`).
    pub cgroup_mode: CgroupMode,
    /// Namespaces that are made anew and left empty at the restore (`empty-ns`).
    pub empty_namespaces: Vec<String>,
}

/// CRIU's `--manage-cgroups` modes that container runtimes offer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupMode {
    /// Leave cgroups to the runtime. The default: CRIU's own, `soft`, changes the mount options
    /// of the host's cgroup2 file system (checkpoint-restore/criu#3029).
    #[default]
    Ignore,
    /// Restore properties of cgroups that CRIU made.
    Soft,
    /// Restore all cgroups and properties.
    Full,
    /// As full, and fail where a cgroup exists.
    Strict,
}

impl CgroupMode {
    /// The mode's name, as runtimes and CRIU write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ignore => "ignore",
            Self::Soft => "soft",
            Self::Full => "full",
            Self::Strict => "strict",
        }
    }

    /// The mode with that name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Ignore, Self::Soft, Self::Full, Self::Strict]
            .into_iter()
            .find(|mode| mode.as_str() == name)
    }
}
