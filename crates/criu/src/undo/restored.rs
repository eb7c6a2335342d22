//! The processes that a restore makes.
//!
//! They are known by three things together: they began after the restore did, they have an id
//! that the images name (the last of `NSpid`, their id in their own namespace), and they descend
//! from the `criu` that restores or, as siblings of it (`rst_sibling`), from this process.
//!
//! Whoever is killed keeps its id until it is reaped, and the next try needs it: so it counts as
//! gone only then. This process reaps its own children; all others' parents, or whoever has orphans
//! here, reap theirs.

use std::{
    collections::HashSet,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};

use super::Leftover;
use crate::{
    held::{Held, descend},
    process::procfs::{self, Entry},
};

/// How long a killed process may take to end and to be reaped.
const DEATH: Duration = Duration::from_secs(10);

/// The processes that a restore may make.
#[derive(Debug)]
pub(crate) struct Restored {
    /// Their ids in their own namespace, as the images have them.
    ids: HashSet<u32>,
    /// When the restore began, in clock ticks since the machine did.
    since: u64,
    /// Whether the root is made a child of this process.
    sibling: bool,
    root: Option<Pid>,
    /// Those that were killed, or are to be reaped.
    found: Vec<Held>,
}

impl Restored {
    /// The processes of the images in `images`, about to be restored.
    pub fn of(images: &impl AsFd, sibling: bool) -> Self {
        let ids = rustix::fs::Dir::read_from(images)
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .filter_map(|entry| {
                let name = entry.file_name().to_str().ok()?;
                let id = name.strip_prefix("core-")?.strip_suffix(".img")?;
                id.parse().ok()
            })
            .collect();
        let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let ticks = rustix::param::clock_ticks_per_second();
        let nanos = u64::try_from(boot.tv_nsec).unwrap_or_default();
        let seconds = u64::try_from(boot.tv_sec).unwrap_or_default();
        Self {
            ids,
            since: seconds * ticks + nanos * ticks / 1_000_000_000,
            sibling,
            root: None,
            found: Vec::new(),
        }
    }

    /// CRIU has told the root process.
    pub fn saw_root(&mut self, pid: Pid) {
        self.root = Some(pid);
    }

    /// Takes down what the restore has made so far.
    pub fn look(&mut self, swrk: Pid) {
        self.find(Some(swrk));
    }

    /// Kills all that the restore has made so far.
    pub fn kill(&mut self, swrk: Pid) {
        self.find(Some(swrk));
        self.kill_found();
    }

    /// Kills what is still there, now that CRIU has ended, and waits until all of it is gone.
    pub fn reap(&mut self) -> Vec<Leftover> {
        self.find(None);
        self.find_ending();
        self.kill_found();
        let deadline = Instant::now() + DEATH;
        self.found
            .drain(..)
            .filter(|process| !process.is_gone(deadline))
            .map(|process| Leftover::Process { pid: process.pid() })
            .collect()
    }

    /// Finds those that end already: CRIU itself has killed them, and nobody has reaped them yet.
    /// Those with much memory take a while even to be zombies.
    fn find_ending(&mut self) {
        for pid in procfs::all().unwrap_or_default() {
            if let Some(pid) = Pid::from_raw(pid.try_into().unwrap_or_default()) {
                self.take(pid, is_ending);
            }
        }
    }

    fn find(&mut self, swrk: Option<Pid>) {
        let mut roots: Vec<Pid> = swrk.into_iter().flat_map(procfs::children).collect();
        if self.sibling {
            let ours = procfs::children(rustix::process::getpid());
            roots.extend(ours.into_iter().filter(|pid| Some(*pid) != swrk));
        }
        descend(roots, |pid| self.take(pid, |_| Some(true)));
    }

    /// Takes hold of a process that the restore has made and that is `wanted`. Whether it is one.
    fn take(&mut self, pid: Pid, wanted: impl Fn(&Entry) -> Option<bool>) -> bool {
        let Ok(held) = Held::take(pid) else {
            return false;
        };
        let is_one = |entry| Some(wanted(&entry)? && self.has_made(pid, &entry)?);
        let is_one = held.entry().and_then(is_one).unwrap_or(false);
        if is_one && self.found.iter().all(|found| found.pid() != pid) {
            self.found.push(held);
        }
        is_one
    }

    fn has_made(&self, pid: Pid, process: &Entry) -> Option<bool> {
        let named = self.root == Some(pid) || self.ids.contains(&process.status().ok()?.inner_pid);
        Some(named && process.stat().ok()?.started >= self.since)
    }

    fn kill_found(&self) {
        for process in &self.found {
            process.send(Signal::KILL);
        }
    }
}

/// Does it exit, is it a zombie, or has it been killed? `None` if it has been reaped.
fn is_ending(process: &Entry) -> Option<bool> {
    Some(process.stat().ok()?.is_exiting() || process.status().ok()?.is_killed())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_child_is_ending_from_the_moment_that_it_is_killed() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let entry = Entry::open(child.id()).unwrap();
        assert_eq!(is_ending(&entry), Some(false));
        child.kill().unwrap();
        assert_eq!(is_ending(&entry), Some(true));
        child.wait().unwrap();
        assert_eq!(is_ending(&entry), None);
    }
}
