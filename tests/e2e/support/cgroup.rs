//! A cgroup that a test makes for the shim to join.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::wait::{SOON, until};

/// A cgroup at the root of one hierarchy. Dropping it removes it.
#[derive(Debug)]
pub struct Cgroup {
    directory: PathBuf,
}

impl Cgroup {
    /// A new one, in version 2 or in the hierarchy of version 1 that asks for no settings.
    pub fn make(name: &str) -> Self {
        let top = Path::new("/sys/fs/cgroup");
        let pids = top.join("pids");
        let directory = if pids.is_dir() {
            pids.join(name)
        } else {
            top.join(name)
        };
        fs::create_dir(&directory).expect("a new cgroup");
        Self { directory }
    }

    /// The processes in it.
    pub fn processes(&self) -> Vec<u32> {
        let list = fs::read_to_string(self.directory.join("cgroup.procs")).expect("it is there");
        list.lines()
            .map(|pid| pid.parse().expect("a pid"))
            .collect()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        until("the cgroup is empty", SOON, || {
            fs::remove_dir(&self.directory).ok()
        });
    }
}
