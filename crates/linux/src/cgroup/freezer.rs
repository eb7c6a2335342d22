//! Freezing, and ending what is frozen.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::process::Pid;

use super::{
    error::CgroupError,
    hierarchy::{Hierarchy, Membership, Switch, VERSION_1, VERSION_2, hierarchies, memberships},
    members,
};
use crate::file;

/// How long to wait before a cgroup is asked again whether it is frozen: version 1 tells by
/// nothing but its file.
const LOOK: Duration = Duration::from_millis(1);

/// A cgroup in each of version 1's hierarchies, and a few numbers.
const SMALL: u64 = 1 << 20;

/// The cgroup by which processes are frozen: of version 1's `freezer`, or of version 2.
#[derive(Debug)]
pub struct Freezer {
    directory: PathBuf,
    switch: Switch,
}

impl Freezer {
    /// The freezer of the process `pid` and of those that are in a cgroup with it. `None` if that
    /// cgroup holds us.
    ///
    /// # Errors
    /// If there is no such process, or `/proc` cannot be read.
    pub fn of(pid: i32) -> Result<Option<Self>, CgroupError> {
        let mounts = hierarchies()?;
        let theirs = memberships(&read(Path::new(&format!("/proc/{pid}/cgroup")))?);
        let ours = memberships(&read(Path::new("/proc/self/cgroup"))?);
        Ok(Self::find(&mounts, &theirs, &ours))
    }

    /// The freezer at `directory`, whose files tell its version. `None` if it is none.
    #[must_use]
    pub fn at(directory: &Path) -> Option<Self> {
        let is = |switch: &Switch| directory.join(switch.file).exists();
        let switch = [VERSION_1, VERSION_2].into_iter().find(is)?;
        Some(Self::new(directory.to_owned(), switch))
    }

    /// The freezer at `directory`, whether it is there or not.
    #[must_use]
    pub fn new(directory: PathBuf, switch: Switch) -> Self {
        Self { directory, switch }
    }

    pub(super) fn find(
        hierarchies: &[Hierarchy],
        theirs: &[Membership],
        ours: &[Membership],
    ) -> Option<Self> {
        let version1 = hierarchies.iter().find(|one| one.carries("freezer"));
        let mount =
            version1.or_else(|| hierarchies.iter().find(|one| one.controllers.is_none()))?;
        let path = mount.path_among(theirs)?;
        // In a cgroup that holds us, not all processes are theirs.
        if mount
            .path_among(ours)
            .is_none_or(|own| own.starts_with(path))
        {
            return None;
        }
        Some(Self::new(mount.directory(path)?, mount.switch()?))
    }

    /// Waits until all of its processes are frozen, and says whether they were within the limit:
    /// one that waits in the kernel for a disk, for instance, is not. Whoever calls has told it to
    /// freeze, or a cgroup above it. Where all of them have ended there is nothing to wait for.
    ///
    /// # Errors
    /// If the cgroup cannot be read or written.
    pub async fn frozen(&self, limit: Option<Duration>) -> Result<bool, CgroupError> {
        let began = Instant::now();
        while !self.is_frozen()? && !self.processes()?.is_empty() {
            if limit.is_some_and(|limit| began.elapsed() >= limit) {
                return Ok(false);
            }
            // A process that went to wait for its vforked child between the order and its turn is
            // not frozen, and version 1 comes back to it only when it is told once more. Where it
            // is the cgroup above that was told, that order is not ours to give.
            if self.is_told().unwrap_or_default() {
                self.freeze()?;
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(true)
    }

    /// Whether this very cgroup is told to freeze, and not only one above it.
    ///
    /// # Errors
    /// If the cgroup cannot be read.
    pub fn is_told(&self) -> Result<bool, CgroupError> {
        let told = read(&self.directory.join(self.switch.told))?;
        Ok(told.trim_ascii() == b"1")
    }

    fn is_frozen(&self) -> Result<bool, CgroupError> {
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
    pub fn end(&self) -> Result<(), CgroupError> {
        let killed = members::kill(&self.directory);
        // Thawed in any case: what is frozen does not even die.
        match self.thaw() {
            Err(error) if members::is_gone(&error.source) => killed,
            thawed => killed.and(thawed),
        }
    }

    /// Its processes, those of the cgroups below it included.
    ///
    /// # Errors
    /// If the cgroup cannot be read.
    pub fn processes(&self) -> Result<Vec<Pid>, CgroupError> {
        members::processes(&self.directory)
    }

    /// Tells its processes to freeze; see [`frozen`](Self::frozen).
    ///
    /// # Errors
    /// If the cgroup cannot be written.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        self.write("freeze processes by", self.switch.freeze)
    }

    /// Lets its processes run.
    ///
    /// # Errors
    /// If the cgroup cannot be written.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        self.write("thaw processes by", self.switch.thaw)
    }

    /// Its file, and what is written there to freeze or to thaw it: for a command that does so.
    #[must_use]
    pub fn word(&self, frozen: bool) -> (PathBuf, &'static str) {
        let Switch { freeze, thaw, .. } = self.switch;
        let word = if frozen { freeze } else { thaw };
        (self.directory.join(self.switch.file), word)
    }

    fn write(&self, step: &'static str, word: &str) -> Result<(), CgroupError> {
        let path = self.directory.join(self.switch.file);
        fs::write(&path, word).map_err(CgroupError::io(step, path))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CgroupError> {
    file::read(path, SMALL).map_err(CgroupError::io("read", path))
}
