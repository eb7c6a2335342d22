//! The processes that a restore makes.
//!
//! They are known by three things together: they began after the restore did, they have an id that
//! the images name (the last of `NSpid`, their id in their own namespace), and it is an id in the
//! PID namespace of these images: the first process of every other container has the same one. The
//! namespace is this process's own, or that of the root, which CRIU tells before it has it make any
//! other process (`setup-namespaces`). Until then the root alone is there, still in the process
//! group of the `criu` that restores (`restore_root_task`, `criu/cr-restore.c`, 4.2); only with
//! `shell_job` has that one no group of its own.
//!
//! They are looked for among what descends from that `criu` or, as its siblings (`rst_sibling`),
//! from this process; and those that end already, whose parent may be anyone by then, everywhere.
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
use stasis_linux::{
    Pidfd,
    pidfd::descend,
    procfs::{self, Entry},
};

use super::leftover::Leftover;
/// How long a killed process may take to end and to be reaped.
const DEATH: Duration = Duration::from_secs(10);

/// The processes that a restore may make.
#[derive(Debug)]
pub(crate) struct RestoreRecovery {
    /// Their ids in their own namespace, as the images have them.
    ids: HashSet<u32>,
    /// That PID namespace, by its inode, as soon as it is known.
    namespace: Option<u64>,
    /// When the restore began, in clock ticks since the machine did.
    since: u64,
    /// Whether the root is made a child of this process.
    sibling: bool,
    /// Those that were killed, or are to be reaped.
    found: Vec<Pidfd>,
}

impl RestoreRecovery {
    /// The processes of the images in `images`, about to be restored.
    pub fn of(images: &impl AsFd, sibling: bool) -> Self {
        let ids: HashSet<u32> = rustix::fs::Dir::read_from(images)
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
        let ours = Entry::open(std::process::id()).and_then(|ours| ours.namespace("pid"));
        Self {
            // With a first process of their own they are never in ours.
            namespace: ours.ok().filter(|_| !ids.contains(&1)),
            ids,
            since: seconds * ticks + nanos * ticks / 1_000_000_000,
            sibling,
            found: Vec::new(),
        }
    }

    /// CRIU has told the root process.
    pub fn saw_root(&mut self, pid: Pid) {
        let Some((root, entry)) = hold(pid) else {
            return;
        };
        if entry.stat().is_ok_and(|stat| stat.started >= self.since) {
            self.namespace = entry.namespace("pid").ok();
            self.add(root);
        }
    }

    /// Takes down what the restore by `swrk` has made so far.
    pub fn look(&mut self, swrk: Pid) {
        self.find(procfs::children(swrk).unwrap_or_default(), swrk);
    }

    /// Kills all that the restore by `swrk` has made so far.
    pub fn kill(&mut self, swrk: Pid) {
        self.look(swrk);
        self.kill_found();
    }

    /// Kills what is still there, now that CRIU has ended, and waits until all of it is gone.
    /// `swrk` is the number that CRIU had.
    pub fn reap(&mut self, swrk: Pid) -> Vec<Leftover> {
        self.find(Vec::new(), swrk);
        self.find_ending(swrk);
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
    fn find_ending(&mut self, swrk: Pid) {
        for pid in procfs::all().unwrap_or_default() {
            if let Some(pid) = Pid::from_raw(pid.try_into().unwrap_or_default()) {
                self.take(pid, swrk, is_ending);
            }
        }
    }

    /// Finds them among `roots` and what descends from them.
    fn find(&mut self, mut roots: Vec<Pid>, swrk: Pid) {
        if self.sibling {
            let ours = procfs::children(rustix::process::getpid()).unwrap_or_default();
            roots.extend(ours.into_iter().filter(|pid| *pid != swrk));
        }
        descend(roots, |pid| {
            self.take(pid, swrk, |_| Some(true)).unwrap_or_default()
        });
    }

    /// Takes hold of a process that the restore has made and that is `wanted`. The children of such
    /// a one.
    fn take(
        &mut self,
        pid: Pid,
        swrk: Pid,
        wanted: impl Fn(&Entry) -> Option<bool>,
    ) -> Option<Vec<Pid>> {
        let (held, entry) = hold(pid)?;
        let is_one = wanted(&entry)? && self.has_made(&entry, swrk)?;
        is_one.then(|| {
            let children = held.children().unwrap_or_default();
            self.add(held);
            children
        })
    }

    fn add(&mut self, process: Pidfd) {
        if self.found.iter().all(|found| found.pid() != process.pid()) {
            self.found.push(process);
        }
    }

    fn has_made(&self, process: &Entry, swrk: Pid) -> Option<bool> {
        let stat = process.stat().ok()?;
        let named = self.ids.contains(&process.status().ok()?.inner_pid);
        if stat.started < self.since || !named {
            return Some(false);
        }
        let in_group = stat.group == swrk.as_raw_pid().unsigned_abs();
        Some(in_group || self.namespace == Some(process.namespace("pid").ok()?))
    }

    fn kill_found(&self) {
        for process in &self.found {
            process.send(Signal::KILL);
        }
    }
}

/// Takes hold of the process that has this number now, with what `/proc` has of it.
fn hold(pid: Pid) -> Option<(Pidfd, Entry)> {
    let held = Pidfd::take(pid).ok()?;
    let entry = held.entry()?;
    Some((held, entry))
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
