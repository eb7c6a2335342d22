//! The keys of `config.toml`. `examples/config.toml` documents every one.

use std::{collections::BTreeMap, path::PathBuf};

use log::LevelFilter;
use serde::{Deserialize, Deserializer, de};
use stasis_engine::{CheckpointOptions, Timeouts};

/// The configuration of one container, with the keys of `config.toml`.
///
/// gVisor's keys keep their names and meaning, so that its files work here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The runtime binary, a name or a path. Empty until the configuration is resolved, if nobody
    /// names one.
    pub binary_name: String,
    /// The runtime's root without the namespace, if one was set: see [`Config::runtime_root`].
    #[serde(deserialize_with = "non_empty")]
    pub root: Option<PathBuf>,
    /// Flags for every call of runsc, without the dashes.
    pub runsc_config: BTreeMap<String, String>,
    /// Whether runc and crun leave cgroups to systemd.
    pub systemd_cgroup: bool,
    /// Whether runc and crun change the root by chroot, for a root on a ramdisk.
    pub no_pivot_root: bool,
    /// Whether runc and crun leave the session keyring as it is.
    pub no_new_keyring: bool,
    /// The owner of the pipes that a container gets as its standard streams.
    pub io_uid: u32,
    /// The group of those pipes.
    pub io_gid: u32,
    /// The cgroup that the shim joins.
    #[serde(deserialize_with = "non_empty")]
    pub shim_cgroup: Option<String>,
    /// Where an image to restore from is, if Create names none.
    #[serde(skip)]
    pub criu_image_path: Option<PathBuf>,
    /// Where CRIU's logs of a restore go, if not into the bundle.
    #[serde(skip)]
    pub criu_work_path: Option<PathBuf>,
    /// How much is logged, if it was set.
    #[serde(deserialize_with = "level")]
    pub log_level: Option<LevelFilter>,
    /// A file that gets a copy of the log; a directory, where it ends in a slash.
    #[serde(deserialize_with = "non_empty")]
    pub log_path: Option<PathBuf>,
    /// The deadlines of engine calls.
    pub timeouts: Timeouts,
    /// The defaults of a checkpoint's options.
    pub checkpoint: CheckpointOptions,
    /// A key of gVisor's, known only to be refused when it is true.
    pub(super) grouping: bool,
    /// As [`Config::grouping`].
    pub(super) enable_hibernate_server: bool,
}

/// Text, where an empty one is as good as none: gVisor's own defaults are written that way.
fn non_empty<'de, D: Deserializer<'de>, T: From<String>>(from: D) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(from)?;
    Ok((!text.is_empty()).then(|| text.into()))
}

/// The levels by the names that gVisor's shim takes (logrus): ours, and those above error.
fn level<'de, D: Deserializer<'de>>(from: D) -> Result<Option<LevelFilter>, D::Error> {
    const LEVELS: [&str; 7] = ["trace", "debug", "info", "warn", "error", "fatal", "panic"];
    let name = String::deserialize(from)?;
    let level = match name.as_str() {
        "trace" => LevelFilter::Trace,
        "debug" => LevelFilter::Debug,
        "info" => LevelFilter::Info,
        "warn" | "warning" => LevelFilter::Warn,
        "" => return Ok(None),
        "error" | "fatal" | "panic" => LevelFilter::Error,
        _ => return Err(de::Error::unknown_variant(&name, &LEVELS)),
    };
    Ok(Some(level))
}
