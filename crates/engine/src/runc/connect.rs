//! Makes the engine.

use std::ffi::OsString;

use super::{Runc, settle};
use crate::{command::Runtime, connect::Settings, identity::Identity};

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
            passing: settle::was_too_busy,
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
}
