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
    fs,
    os::fd::{AsFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions},
};

use super::Leftover;
use crate::{swrk, sys};

/// How long a killed process may take to end and to be reaped.
const DEATH: Duration = Duration::from_secs(2);
/// How often it is looked whether one has been: that a process is reaped no event tells before
/// Linux 6.9.
const LOOK: Duration = Duration::from_millis(1);
/// Deeper than any tree of processes.
const MAX_PROCESSES: usize = 1 << 16;

/// The processes that a restore may make.
#[derive(Debug)]
pub(crate) struct Restored {
    /// Their ids in their own namespace, as the images have them.
    ids: HashSet<i32>,
    /// When the restore began, in clock ticks since the machine did.
    since: u64,
    /// Whether the root is made a child of this process.
    sibling: bool,
    root: Option<Pid>,
    /// Those that were killed, or are to be reaped.
    found: Vec<(Pid, OwnedFd)>,
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
        self.find_zombies();
        self.kill_found();
        let deadline = Instant::now() + DEATH;
        self.found
            .drain(..)
            .filter(|(_, pidfd)| !is_gone(pidfd, deadline))
            .map(|(pid, _)| Leftover::Process { pid })
            .collect()
    }

    /// Finds those that CRIU itself has killed, and that nobody has reaped yet.
    fn find_zombies(&mut self) {
        let pids = fs::read_dir("/proc").into_iter().flatten();
        let pids =
            pids.filter_map(|entry| swrk::pid(entry.ok()?.file_name().to_str()?.parse().ok()?));
        for pid in pids.take(MAX_PROCESSES) {
            if is_zombie(pid) && self.is_restored(pid) {
                self.take_down(pid);
            }
        }
    }

    fn take_down(&mut self, pid: Pid) {
        let known = self.found.iter().any(|(found, _)| *found == pid);
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty());
        if let (false, Ok(pidfd)) = (known, pidfd) {
            self.found.push((pid, pidfd));
        }
    }

    fn find(&mut self, swrk: Option<Pid>) {
        let mut queue: Vec<Pid> = swrk.into_iter().flat_map(swrk::children).collect();
        if self.sibling {
            let ours = swrk::children(rustix::process::getpid());
            queue.extend(ours.into_iter().filter(|pid| Some(*pid) != swrk));
        }
        let mut seen = 0;
        while let Some(pid) = queue.pop() {
            seen += 1;
            if seen > MAX_PROCESSES || !self.is_restored(pid) {
                continue;
            }
            queue.extend(swrk::children(pid));
            self.take_down(pid);
        }
    }

    fn is_restored(&self, pid: Pid) -> bool {
        let raw = pid.as_raw_pid();
        let Ok(status) = fs::read_to_string(format!("/proc/{raw}/status")) else {
            return false;
        };
        let Ok(stat) = fs::read_to_string(format!("/proc/{raw}/stat")) else {
            return false;
        };
        let named =
            self.root == Some(pid) || inner_id(&status).is_some_and(|id| self.ids.contains(&id));
        named && started(&stat).is_some_and(|started| started >= self.since)
    }

    fn kill_found(&self) {
        for (_, pidfd) in &self.found {
            // It may have ended.
            let _ = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
        }
    }
}

/// Waits until `deadline` for a process to end and to be reaped, and reaps it if it is ours.
pub(crate) fn is_gone(pidfd: &OwnedFd, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = Timespec {
        tv_sec: left.as_secs().try_into().unwrap_or_default(),
        tv_nsec: left.subsec_nanos().into(),
    };
    let mut poll = [PollFd::new(pidfd, PollFlags::IN)];
    if !rustix::event::poll(&mut poll, Some(&timeout)).is_ok_and(|ready| ready > 0) {
        return false;
    }
    // Another's child is reaped by its own parent.
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let _ = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options);
    loop {
        match sys::send_signal(pidfd.as_fd(), 0) {
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => return true,
            _ if Instant::now() >= deadline => return false,
            _ => thread::sleep(LOOK),
        }
    }
}

fn is_zombie(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid()));
    stat.is_ok_and(|stat| {
        let state = stat.rsplit_once(')').map(|(_, fields)| fields.trim_start());
        state.is_some_and(|fields| fields.starts_with('Z'))
    })
}

/// The id in the innermost namespace: the last of `NSpid` in `/proc/PID/status`.
fn inner_id(status: &str) -> Option<i32> {
    let ids = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?;
    ids.split_whitespace().next_back()?.parse().ok()
}

/// When the process began, in clock ticks: field 22 of `/proc/PID/stat`. The second field, which
/// may hold anything, ends with the last parenthesis.
fn started(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_id_in_its_own_namespace() {
        assert_eq!(
            inner_id("Name:\tx\nNSpid:\t4711\t12\t1\nNSpgid:\t1\n"),
            Some(1)
        );
        assert_eq!(inner_id("NSpid:\t4711\n"), Some(4711));
        assert_eq!(inner_id("Name:\tx\n"), None);
    }

    #[test]
    fn the_start_is_found_behind_any_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 98765 1 1";
        assert_eq!(started(stat), Some(98765));
    }
}
