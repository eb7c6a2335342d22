//! Finds, freezes, kills, thaws and removes a container's cgroups, of both versions.
//!
//! A process tells its cgroups in `/proc/PID/cgroup`, as paths from the root of the reader's
//! cgroup namespace; where each hierarchy is mounted is in `/proc/self/mountinfo`, whose root
//! field is such a path too, and not always `/`. A runtime makes a container's cgroups at the
//! path in its spec, below each mount (cgroups(7), cgroup_namespaces(7)); or it has systemd make
//! them, at a path that the names of the slice and the scope tell (systemd.slice(5), runc's
//! docs/systemd.md).
//!
//! What is not the container's own is never touched: a container that has no cgroup of its own
//! is in the shim's.

mod hierarchy;
#[cfg(test)]
mod tests;

use std::{
    fs::{self, DirEntry},
    io,
    path::{Component, Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{errno::Errno, unistd::Pid};

use self::hierarchy::{Hierarchy, Membership, Switch, hierarchies, memberships};
use crate::{
    calls::Signal,
    error::{Error, Result},
    sys,
};

/// Where crun restores into, below the container's cgroup, and what it forgets to remove when
/// the restore fails (seen of 1.21 and 1.28, cgroup version 1).
const CRUN_PROXY: &str = ".proxy-crun";
/// What crun makes in a scope of systemd's, with cgroup version 2, unless an annotation says
/// otherwise.
const CRUN_SUBGROUP: &str = "container";

/// How long to wait before a cgroup is asked again whether it is frozen: version 1 tells by
/// nothing but its file.
const LOOK: Duration = Duration::from_millis(1);

/// Where a scope is whose slice is not named.
const SYSTEM_SLICE: &str = "system.slice";

/// The cgroup by which a container is frozen: of version 1's `freezer`, or of version 2.
#[derive(Debug)]
pub struct Freezer {
    directory: PathBuf,
    switch: Switch,
}

impl Freezer {
    /// The freezer of the container whose init is `init`. `None` if it has no cgroup of its own.
    ///
    /// # Errors
    /// If there is no such process, or `/proc` cannot be read.
    pub fn of(init: Pid) -> Result<Option<Self>> {
        let mounts = hierarchies()?;
        let theirs = memberships(&read(Path::new(&format!("/proc/{init}/cgroup")))?);
        let ours = memberships(&read(Path::new("/proc/self/cgroup"))?);
        Ok(Self::find(&mounts, &theirs, &ours))
    }

    fn find(hierarchies: &[Hierarchy], theirs: &[Membership], ours: &[Membership]) -> Option<Self> {
        let version1 = hierarchies.iter().find(|one| one.carries("freezer"));
        let mount =
            version1.or_else(|| hierarchies.iter().find(|one| one.controllers.is_none()))?;
        let path = mount.path_among(theirs)?;
        // In a cgroup that holds us, not all processes are the container's.
        if mount
            .path_among(ours)
            .is_none_or(|own| own.starts_with(path))
        {
            return None;
        }
        Some(Self {
            directory: mount.directory(path)?,
            switch: mount.switch()?,
        })
    }

    /// Waits until all of its processes are frozen, and says whether they were within the limit:
    /// one that waits in the kernel for a disk, for instance, is not. Whoever calls has told it to
    /// freeze, or a cgroup above it. Where all of them have ended there is nothing to wait for.
    ///
    /// # Errors
    /// If the cgroup cannot be read or written.
    pub async fn frozen(&self, limit: Option<Duration>) -> Result<bool> {
        let began = Instant::now();
        while !self.is_frozen()? && !self.processes()?.is_empty() {
            if limit.is_some_and(|limit| began.elapsed() >= limit) {
                return Ok(false);
            }
            // A process that went to wait for its vforked child between the order and its turn is
            // not frozen, and version 1 comes back to it only when it is told once more. Where it
            // is the cgroup above that was told, that order is not ours to give.
            if self.is_told() {
                self.write("freeze the container by", self.switch.freeze)?;
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(true)
    }

    /// Whether this very cgroup is told to freeze, and not only one above it.
    fn is_told(&self) -> bool {
        fs::read(self.directory.join(self.switch.told)).is_ok_and(|told| told.trim_ascii() == b"1")
    }

    fn is_frozen(&self) -> Result<bool> {
        let (file, frozen) = self.switch.frozen;
        let said = read(&self.directory.join(file))?;
        Ok(String::from_utf8_lossy(&said)
            .lines()
            .any(|line| line == frozen))
    }

    /// Sends SIGKILL to every process in it, which must be frozen, and thaws it. So none of them
    /// runs another instruction of its own.
    ///
    /// # Errors
    /// If the cgroup cannot be read or written.
    pub fn end(&self) -> Result<()> {
        kill(&self.directory)?;
        self.thaw()
    }

    /// Its processes, those of the cgroups below it included.
    ///
    /// # Errors
    /// If the cgroup cannot be read.
    pub fn processes(&self) -> Result<Vec<Pid>> {
        processes(&self.directory)
    }

    /// Lets its processes run.
    ///
    /// # Errors
    /// If the cgroup cannot be written.
    pub fn thaw(&self) -> Result<()> {
        self.write("thaw the container by", self.switch.thaw)
    }

    fn write(&self, step: &'static str, word: &str) -> Result<()> {
        let path = self.directory.join(self.switch.file);
        fs::write(&path, word).map_err(Error::io(step, path))
    }
}

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
            kill(directory)?;
        }
        for (directory, switch) in made() {
            if let Some(switch) = *switch {
                Freezer {
                    directory: directory.clone(),
                    switch,
                }
                .thaw()?;
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
            if directory.is_dir() && !processes(directory)?.is_empty() {
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

fn kill(directory: &Path) -> Result<()> {
    for pid in processes(directory)? {
        match sys::kill(pid, Signal::KILL.number()) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => return Err(Error::io("kill a process of", directory)(error.into())),
        }
    }
    Ok(())
}

/// The processes of a cgroup and of those below it, which a container may have made.
fn processes(directory: &Path) -> Result<Vec<Pid>> {
    let mut pids = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = fs::read_dir(&directory).map_err(Error::io("list", &directory))?;
        let is_directory = |entry: &DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        directories.extend(
            entries
                .flatten()
                .filter(is_directory)
                .map(|entry| entry.path()),
        );
        let listed = read(&directory.join("cgroup.procs"))?;
        let listed = String::from_utf8_lossy(&listed);
        // 0 is a process of a PID namespace that we do not see into, and to kill(2) it is our
        // own process group.
        let seen = listed
            .lines()
            .filter_map(|line| line.parse().ok())
            .filter(|&pid| pid > 0);
        pids.extend(seen.map(Pid::from_raw));
    }
    Ok(pids)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(Error::io("read", path))
}
