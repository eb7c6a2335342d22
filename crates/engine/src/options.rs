//! The options of a checkpoint, in engine-neutral terms.
//!
//! They come from the request, the configuration file and, at a restore, from the image's
//! manifest: hence the serde names, which are those of the `[checkpoint]` table and of
//! `stasis.json`.

use serde::{Deserialize, Serialize};
use stasis_criu::options::CgroupMode;

/// How a container is dumped; a restore needs the same again.
///
/// The names are CRIU's. What an engine cannot honour is refused by
/// [`crate::Engine::check_options`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointOptions {
    /// Keep established TCP connections (`tcp-established`).
    pub tcp_established: bool,
    /// Dump Unix sockets whose peer is outside the container (`ext-unix-sk`).
    pub ext_unix_sk: bool,
    /// Dump a process that is attached to a terminal of the outside (`shell-job`).
    pub shell_job: bool,
    /// Dump file locks (`file-locks`).
    pub file_locks: bool,
    /// How CRIU treats cgroups (`manage-cgroups`).
    #[serde(with = "mode")]
    pub cgroup_mode: CgroupMode,
    /// Namespaces that are made anew and left empty at the restore (`empty-ns`).
    pub empty_namespaces: Vec<String>,
}

impl Default for CheckpointOptions {
    fn default() -> Self {
        Self {
            tcp_established: false,
            ext_unix_sk: false,
            shell_job: false,
            file_locks: false,
            // CRIU's own default, `soft`, changes the mount options of the host's cgroup2 file
            // system (checkpoint-restore/criu#3029).
            cgroup_mode: CgroupMode::Ignore,
            empty_namespaces: Vec::new(),
        }
    }
}

/// A mode by the name that runtimes and CRIU have for it.
mod mode {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use stasis_criu::options::CgroupMode;

    pub(super) fn serialize<S: Serializer>(
        mode: &CgroupMode,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(mode.as_str())
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(
        deserializer: D,
    ) -> Result<CgroupMode, D::Error> {
        let name = String::deserialize(deserializer)?;
        CgroupMode::from_name(&name).ok_or_else(|| {
            let known = CgroupMode::NAMED.map(CgroupMode::as_str).join(", ");
            D::Error::custom(format!(
                "unknown cgroup mode {name:?}, expected one of {known}"
            ))
        })
    }
}
