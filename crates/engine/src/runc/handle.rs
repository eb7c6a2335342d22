//! A runc or crun with one container: its settings, and what the runtime knows of it.

use std::{ffi::OsString, fs, path::PathBuf};

use stasis_linux::mountinfo::detach_below;

use crate::{
    answer, calls::EngineState, command::Runtime, error::Result, identity::Identity,
    settings::Settings,
};

/// Where crun mounts the root file system for CRIU, below the bundle; runc has the same name in
/// its state directory.
const CRUN_ROOT_MOUNT: &str = "criu-root";

/// The engine for runc and crun.
#[derive(Debug)]
pub(crate) struct Runc {
    pub(super) runtime: Runtime,
    /// Where the runtime keeps a directory for each container.
    pub(super) root: PathBuf,
    bundle: PathBuf,
    pub(super) systemd_cgroup: bool,
    pub(super) no_pivot_root: bool,
    pub(super) no_new_keyring: bool,
}

impl Runc {
    pub(crate) fn connected(identity: Identity, settings: Settings) -> Self {
        let log = settings.bundle.join("log.json");
        let mut globals: Vec<OsString> = Vec::from([
            "--root".into(),
            settings.root.clone().into(),
            "--log".into(),
            log.clone().into(),
            "--log-format".into(),
            "json".into(),
        ]);
        if settings.systemd_cgroup {
            globals.push("--systemd-cgroup".into());
        }
        let runtime = Runtime {
            identity,
            globals,
            log,
            passing: was_too_busy,
            timeouts: settings.timeouts,
            children: settings.children,
        };
        Self {
            runtime,
            root: settings.root,
            bundle: settings.bundle,
            systemd_cgroup: settings.systemd_cgroup,
            no_pivot_root: settings.no_pivot_root,
            no_new_keyring: settings.no_new_keyring,
        }
    }

    /// Whether the runtime has a directory of the container.
    pub(super) fn knows(&self, id: &str) -> Result<bool> {
        answer::exists(&self.root.join(id))
    }

    /// Unmounts the root file system from where the runtimes mount it for a restore. It stays
    /// there when they are killed, and whoever then removes the directory, runc itself to begin
    /// with, removes the container's files through it.
    pub(super) fn detach_root(&self, id: &str) -> Result<()> {
        let in_bundle = self.bundle.join(CRUN_ROOT_MOUNT);
        detach_below(&self.root.join(id))?;
        detach_below(&in_bundle)?;
        // It is hardly ever there; where somebody has put something in it, it is not crun's.
        let _ = fs::remove_dir(&in_bundle);
        Ok(())
    }

    pub(super) fn refuse_known(&self, verb: &'static str, id: &str) -> Result<()> {
        if self.knows(id)? {
            return Err(answer::known_already(self.runtime.identity.kind, verb));
        }
        Ok(())
    }

    pub(super) async fn delete(&self, id: &str, force: bool) -> Result<()> {
        self.detach_root(id)?;
        self.runtime.delete(id, force, || self.knows(id)).await
    }

    pub(super) async fn state(&self, id: &str) -> Result<EngineState> {
        self.runtime.state(id, || self.knows(id)).await
    }
}

/// Whether `runc pause` has looked a thousand times in a row for a container to be frozen, and
/// has thawed it then (libcontainer's cgroups/fs/freezer.go). Those are milliseconds.
fn was_too_busy(message: &str) -> bool {
    message.contains("unable to freeze")
}
