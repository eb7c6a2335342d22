//! From a binary to the engine that drives it.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use crate::{
    children::Children,
    engine::Engine,
    error::Result,
    identify::identify,
    identity::{Identity, Kind},
    runc::Runc,
    runsc::Runsc,
};

/// What every engine is made of.
#[derive(Debug, Clone)]
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

/// How long each call may take; `None` is for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// `create`.
    pub create: Option<Duration>,
    /// `start`.
    pub start: Option<Duration>,
    /// `exec`, until the process runs.
    pub exec: Option<Duration>,
    /// `kill`.
    pub kill: Option<Duration>,
    /// `delete`.
    pub delete: Option<Duration>,
    /// `state`, `ps` and `features`.
    pub state: Option<Duration>,
    /// `pause`.
    pub pause: Option<Duration>,
    /// `resume`.
    pub resume: Option<Duration>,
    /// `checkpoint`: by default for ever, since it takes what the memory takes.
    pub checkpoint: Option<Duration>,
    /// `restore`: by default for ever, as well.
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

/// Asks the binary what it is, and gives the engine for it.
///
/// # Errors
/// If the binary is missing, cannot be run or is no runtime that this crate drives.
pub async fn connect(settings: Settings) -> Result<Arc<dyn Engine>> {
    let identity = identify(&settings.binary, &settings.children).await?;
    Ok(connect_as(identity, settings))
}

/// Gives the engine for a binary that was asked before, as one whose settings depend on the
/// answer is. [`Settings::binary`] has no further say.
#[must_use]
pub fn connect_as(identity: Identity, settings: Settings) -> Arc<dyn Engine> {
    match identity.kind {
        Kind::Runsc => Arc::new(Runsc::connected(identity, settings)),
        Kind::Runc | Kind::Crun => Arc::new(Runc::connected(identity, settings)),
    }
}
