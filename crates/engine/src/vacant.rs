//! The cgroups that a container is going to have, and what a failed restore leaves in them.
//!
//! A runtime makes a container's cgroups at the path in its spec, below each mount; or it has
//! systemd make them, at a path that the names of the slice and the scope tell (systemd.slice(5),
//! runc's docs/systemd.md).

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use stasis_linux::cgroup::{self, Freezer, Hierarchy, Switch, hierarchies};

use crate::error::Result;

/// Where crun restores into, below the container's cgroup, and what it forgets to remove when
/// the restore fails (seen of 1.21 and 1.28, cgroup version 1).
const CRUN_PROXY: &str = ".proxy-crun";
/// What crun makes in a scope of systemd's, with cgroup version 2, unless an annotation says
/// otherwise.
const CRUN_SUBGROUP: &str = "container";

/// Where a scope is whose slice is not named.
const SYSTEM_SLICE: &str = "system.slice";

/// The cgroups at the `cgroupsPath` of a spec, one in each hierarchy, whether they exist or not.
///
/// Found before a restore that fails afterwards, they tell what that restore left.
#[derive(Debug)]
pub struct Vacant {
    directories: Vec<(PathBuf, Option<Switch>)>,
}

impl Vacant {
    /// The cgroups at `cgroups_path`, which is in systemd's notation if `systemd` makes them;
    /// `None` if there is a process in them, since what is left there is then not known to be
    /// ours, or if the path names none.
    ///
    /// # Errors
    /// If the mounts or a cgroup cannot be read.
    pub fn at(cgroups_path: &str, systemd: bool) -> Result<Option<Self>> {
        let path = if systemd {
            scope(cgroups_path)
        } else {
            Some(PathBuf::from(cgroups_path))
        };
        path.map_or(Ok(None), |path| Self::below(hierarchies()?, &path))
    }

    fn below(hierarchies: Vec<Hierarchy>, path: &Path) -> Result<Option<Self>> {
        let relative = path.strip_prefix("/").unwrap_or(path);
        let plain = relative
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        if relative.as_os_str().is_empty() || !plain {
            return Ok(None);
        }
        let directories = hierarchies
            .into_iter()
            .map(|one| (one.mount.join(relative), one.switch()));
        let found = Self {
            directories: directories.collect(),
        };
        Ok(found.is_vacant()?.then_some(found))
    }

    /// Sends SIGKILL to every process that is there now, and thaws it.
    ///
    /// # Errors
    /// If a cgroup cannot be read or written.
    pub fn kill_all(&self) -> Result<()> {
        let made = || {
            self.directories
                .iter()
                .filter(|(directory, _)| directory.is_dir())
        };
        for (directory, _) in made() {
            cgroup::kill(directory)?;
        }
        for (directory, switch) in made() {
            if let Some(switch) = *switch {
                Freezer::new(directory.clone(), switch).thaw()?;
            }
        }
        Ok(())
    }

    /// Whether nobody is there, as before.
    ///
    /// # Errors
    /// If a cgroup cannot be read.
    pub fn is_vacant(&self) -> Result<bool> {
        for (directory, _) in &self.directories {
            if directory.is_dir() && !cgroup::processes(directory)?.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes them, and crun's own in them, as far as they are empty. A parent stays.
    pub fn remove(&self) {
        for (directory, _) in &self.directories {
            let own = [CRUN_PROXY, CRUN_SUBGROUP].map(|name| directory.join(name));
            for directory in own.iter().chain([directory]) {
                match fs::remove_dir(directory) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        let directory = directory.display();
                        tracing::warn!(%error, %directory, "cannot remove a cgroup");
                    }
                    _ => {}
                }
            }
        }
    }
}

/// The cgroup of the scope that `SLICE:PREFIX:NAME` stands for: `a-b.slice` is in `a.slice`, and
/// the scope `PREFIX-NAME.scope` in that. What stands for something else is none.
fn scope(cgroups_path: &str) -> Option<PathBuf> {
    let mut parts = cgroups_path.split(':');
    let (slice, prefix, name) = (parts.next()?, parts.next()?, parts.next()?);
    // runc makes a slice of a name like that.
    if parts.next().is_some() || cgroups_path.contains('/') || name.ends_with(".slice") {
        return None;
    }
    let slice = if slice.is_empty() {
        SYSTEM_SLICE
    } else {
        slice
    };
    let levels = slice.strip_suffix(".slice")?;
    let mut path = PathBuf::new();
    // The root slice.
    if levels != "-" {
        let ends = levels.match_indices('-').map(|(at, _)| at);
        for end in ends.chain([levels.len()]) {
            path.push(format!("{}.slice", &levels[..end]));
        }
    }
    path.push(format!("{prefix}-{name}.scope"));
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_are_removed_only_where_there_was_nobody_before() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |mount: &str| Hierarchy {
            controllers: Some(vec![mount.to_owned()]),
            root: PathBuf::from("/"),
            mount: directory.path().join(mount),
        };
        let mounts = || vec![at("cpu"), at("freezer")];
        let vacant = Vacant::below(mounts(), Path::new("/default/c"))
            .expect("read")
            .expect("vacant");
        for mount in ["cpu", "freezer"] {
            fs::create_dir_all(directory.path().join(mount).join("default/c/.proxy-crun"))
                .expect("made");
        }
        vacant.remove();
        for mount in ["cpu", "freezer"] {
            assert!(!directory.path().join(mount).join("default/c").exists());
            assert!(directory.path().join(mount).join("default").exists());
        }
        fs::create_dir_all(directory.path().join("cpu/default/c")).expect("made");
        fs::write(directory.path().join("cpu/default/c/cgroup.procs"), "1\n").expect("written");
        assert!(
            Vacant::below(mounts(), Path::new("/default/c"))
                .expect("read")
                .is_none()
        );
    }

    #[test]
    fn systemds_notation_stands_for_a_scope_in_its_slice() {
        for (notation, path) in [
            ("system.slice:runc:c", Some("system.slice/runc-c.scope")),
            (":runc:c", Some("system.slice/runc-c.scope")),
            ("-.slice:cri-containerd:c", Some("cri-containerd-c.scope")),
            (
                "kubepods-burstable-pod1.slice:cri-containerd:c",
                Some(
                    "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/\
                     cri-containerd-c.scope",
                ),
            ),
            ("a.slice:p:b.slice", None),
            ("a.slice:p:c:d", None),
            ("a.slice:p", None),
            ("system:p:c", None),
            ("a.slice:..:/../c", None),
            ("/default/c", None),
        ] {
            assert_eq!(scope(notation), path.map(PathBuf::from), "{notation}");
        }
    }

    #[test]
    fn no_path_outside_the_hierarchies_is_touched() {
        for path in ["", "/", "..", "/a/../..", "./a"] {
            for systemd in [false, true] {
                assert!(Vacant::at(path, systemd).expect("read").is_none(), "{path}");
            }
        }
    }
}
