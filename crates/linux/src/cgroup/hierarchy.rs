//! The mounted cgroup hierarchies, and which cgroups in them a process is in.

use std::{
    ffi::OsString,
    os::unix::ffi::OsStringExt,
    path::{Component, Path, PathBuf},
};

use super::error::CgroupError;
use crate::mountinfo::{self, Mount};

/// How a cgroup is frozen and thawed, by files in its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switch {
    /// Where [`freeze`](Self::freeze) or [`thaw`](Self::thaw) is written.
    pub file: &'static str,
    /// What freezes it.
    pub freeze: &'static str,
    /// What thaws it.
    pub thaw: &'static str,
    /// What says `1` while this very cgroup, not one above it, is told to freeze.
    pub told: &'static str,
    /// The file, and its line, that say that every process in it and below is frozen.
    pub frozen: (&'static str, &'static str),
}

/// Linux's Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst.
pub(crate) const VERSION_1: Switch = Switch {
    file: "freezer.state",
    freeze: "FROZEN",
    thaw: "THAWED",
    told: "freezer.self_freezing",
    frozen: ("freezer.state", "FROZEN"),
};
/// Linux's Documentation/admin-guide/cgroup-v2.rst, "Core Interface Files".
pub(crate) const VERSION_2: Switch = Switch {
    file: "cgroup.freeze",
    freeze: "1",
    thaw: "0",
    told: "cgroup.freeze",
    frozen: ("cgroup.events", "frozen 1"),
};

/// A mounted cgroup hierarchy.
#[derive(Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Of version 1, the options that name its controllers; of version 2, nothing.
    pub controllers: Option<Vec<String>>,
    /// The cgroup that is seen at `mount`.
    pub root: PathBuf,
    /// Where it is mounted.
    pub mount: PathBuf,
}

/// One line of `/proc/PID/cgroup`: the controllers, none for version 2, and the path.
pub(crate) type Membership = (Vec<String>, PathBuf);

impl Hierarchy {
    /// Whether it has this controller of version 1.
    #[must_use]
    pub fn carries(&self, controller: &str) -> bool {
        self.controllers
            .as_ref()
            .is_some_and(|all| all.iter().any(|one| one == controller))
    }

    /// How the cgroups of this hierarchy are frozen, if they can be.
    #[must_use]
    pub fn switch(&self) -> Option<Switch> {
        if self.controllers.is_none() {
            return Some(VERSION_2);
        }
        self.carries("freezer").then_some(VERSION_1)
    }

    /// The cgroup in this hierarchy of a process with these memberships.
    pub(crate) fn path_among<'a>(&self, memberships: &'a [Membership]) -> Option<&'a Path> {
        let found = memberships
            .iter()
            .find(|(controllers, _)| match &self.controllers {
                Some(_) => controllers
                    .iter()
                    .any(|controller| self.carries(controller)),
                None => controllers.is_empty(),
            });
        found.map(|(_, path)| path.as_path())
    }

    /// Where a cgroup of this hierarchy is seen, if it is below the mount's root.
    pub(crate) fn directory(&self, path: &Path) -> Option<PathBuf> {
        let below = path.strip_prefix(&self.root).ok()?;
        // `/..` is how the kernel shows what is outside our cgroup namespace.
        let plain = below
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        plain.then(|| self.mount.join(below))
    }
}

/// The cgroups in `/proc/PID/cgroup`. What cannot be read as one is passed over.
pub(crate) fn memberships(text: &[u8]) -> Vec<Membership> {
    text.split(|&byte| byte == b'\n')
        .filter_map(|line| {
            let mut fields = line.splitn(3, |&byte| byte == b':').skip(1);
            let controllers = String::from_utf8_lossy(fields.next()?).into_owned();
            let path = PathBuf::from(OsString::from_vec(fields.next()?.to_vec()));
            let named = controllers.split(',').filter(|one| !one.is_empty());
            Some((named.map(str::to_owned).collect(), path))
        })
        .collect()
}

/// The hierarchies that are mounted here.
///
/// # Errors
/// If the mounts cannot be read.
pub fn hierarchies() -> Result<Vec<Hierarchy>, CgroupError> {
    let mounts = mountinfo::mounts().map_err(CgroupError::io("read", mountinfo::OWN))?;
    Ok(mounts.into_iter().filter_map(hierarchy).collect())
}

pub(crate) fn hierarchy(mount: Mount) -> Option<Hierarchy> {
    let controllers = match mount.fs_type.as_str() {
        "cgroup2" => None,
        "cgroup" => Some(mount.fs_options.split(',').map(str::to_owned).collect()),
        _ => return None,
    };
    Some(Hierarchy {
        controllers,
        root: mount.root,
        mount: mount.mount_point,
    })
}
