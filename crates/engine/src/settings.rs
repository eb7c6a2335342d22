//! What every engine is made of.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::Deserialize;

use crate::{children::Children, duration::deadline};

/// What every engine is made of.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The runtime's binary, as a path or as a name in `PATH`.
    pub binary: String,
    /// The runtime's state directory, with the namespace.
    pub root: PathBuf,
    /// The container's bundle, where the runtime's log goes.
    pub bundle: PathBuf,
    /// Has systemd make the cgroups.
    pub systemd_cgroup: bool,
    /// runsc's own flags, by name and value. Nothing to the other runtimes.
    pub runsc_config: BTreeMap<String, String>,
    /// Has runc and crun move the root file system instead of pivoting into it.
    pub no_pivot_root: bool,
    /// Has runc and crun keep the session keyring.
    pub no_new_keyring: bool,
    /// How long each call may take.
    pub timeouts: Timeouts,
    /// Where the processes of the calls are entered.
    pub children: Children,
}

/// How long each call may take; `None` is for ever. The names are those of the table `[timeouts]`,
/// where a key that is left out keeps its default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// `create`.
    #[serde(deserialize_with = "deadline")]
    pub create: Option<Duration>,
    /// `start`.
    #[serde(deserialize_with = "deadline")]
    pub start: Option<Duration>,
    /// `exec`, until the process runs.
    #[serde(deserialize_with = "deadline")]
    pub exec: Option<Duration>,
    /// `kill`.
    #[serde(deserialize_with = "deadline")]
    pub kill: Option<Duration>,
    /// `delete`.
    #[serde(deserialize_with = "deadline")]
    pub delete: Option<Duration>,
    /// `state`, `ps` and `features`.
    #[serde(deserialize_with = "deadline")]
    pub state: Option<Duration>,
    /// `pause`.
    #[serde(deserialize_with = "deadline")]
    pub pause: Option<Duration>,
    /// `resume`.
    #[serde(deserialize_with = "deadline")]
    pub resume: Option<Duration>,
    /// `checkpoint`: by default for ever, since it takes what the memory takes.
    #[serde(deserialize_with = "deadline")]
    pub checkpoint: Option<Duration>,
    /// `restore`: by default for ever, as well.
    #[serde(deserialize_with = "deadline")]
    pub restore: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        let usual = Some(Duration::from_secs(30));
        Self {
            create: usual,
            start: usual,
            exec: usual,
            kill: usual,
            delete: usual,
            state: usual,
            pause: usual,
            resume: usual,
            checkpoint: None,
            restore: None,
        }
    }
}
