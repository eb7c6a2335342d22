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
const DEATH: Duration = Duration::from_secs(10);
/// How often it is looked whether one has been: that a process is reaped no event tells before
/// Linux 6.9.
const LOOK: Duration = Duration::from_millis(1);
/// Deeper than any tree of processes.
const MAX_PROCESSES: usize = 1 << 16;
/// The flag of a process that exits (`include/linux/sched.h`).
const PF_EXITING: u64 = 0x4;
/// SIGKILL in a mask of signals.
const KILLED: u64 = 1 << (9 - 1);

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
        self.find_ending();
        self.kill_found();
        let deadline = Instant::now() + DEATH;
        self.found
            .drain(..)
            .filter(|(_, pidfd)| !is_gone(pidfd, deadline))
            .map(|(pid, _)| Leftover::Process { pid })
            .collect()
    }

    /// Finds those that end already: CRIU itself has killed them, and nobody has reaped them yet.
    /// Those with much memory take a while even to be zombies.
    fn find_ending(&mut self) {
        let pids = fs::read_dir("/proc").into_iter().flatten();
        let pids =
            pids.filter_map(|entry| swrk::pid(entry.ok()?.file_name().to_str()?.parse().ok()?));
        for pid in pids.take(MAX_PROCESSES) {
            let Some(process) = Process::read(pid) else {
                continue;
            };
            if process.is_ending() && self.has_made(&process) {
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
            let process = Process::read(pid);
            if seen > MAX_PROCESSES || !process.is_some_and(|process| self.has_made(&process)) {
                continue;
            }
            queue.extend(swrk::children(pid));
            self.take_down(pid);
        }
    }

    fn has_made(&self, process: &Process) -> bool {
        let named = self.root == Some(process.pid)
            || process.inner_id().is_some_and(|id| self.ids.contains(&id));
        named && process.started().is_some_and(|began| began >= self.since)
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

/// A process as `/proc` has it (proc_pid_stat(5), proc_pid_status(5)).
struct Process {
    pid: Pid,
    stat: String,
    status: String,
}

impl Process {
    /// `None` if it has been reaped.
    fn read(pid: Pid) -> Option<Self> {
        let read = |name| fs::read_to_string(format!("/proc/{}/{name}", pid.as_raw_pid()));
        Some(Self {
            pid,
            stat: read("stat").ok()?,
            status: read("status").ok()?,
        })
    }

    /// Whether it exits, is a zombie, or has been killed: SIGKILL stays among the signals that are
    /// pending for the whole process.
    fn is_ending(&self) -> bool {
        let flags = self.field(9).and_then(|flags| flags.parse::<u64>().ok());
        let pending = self.value("ShdPnd:");
        let pending = pending.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        flags.is_some_and(|flags| flags & PF_EXITING != 0)
            || pending.is_some_and(|mask| mask & KILLED != 0)
    }

    /// The id in the innermost namespace: the last of `NSpid`.
    fn inner_id(&self) -> Option<i32> {
        let ids = self.value("NSpid:")?;
        ids.split_whitespace().next_back()?.parse().ok()
    }

    /// When it began, in clock ticks.
    fn started(&self) -> Option<u64> {
        self.field(22)?.parse().ok()
    }

    /// A field of `stat` behind the second, which may hold anything and ends with the last
    /// parenthesis.
    fn field(&self, number: usize) -> Option<&str> {
        let (_, fields) = self.stat.rsplit_once(')')?;
        fields.split_whitespace().nth(number.checked_sub(3)?)
    }

    /// A line of `status`.
    fn value(&self, name: &str) -> Option<&str> {
        let mut lines = self.status.lines();
        lines.find_map(|line| line.strip_prefix(name))
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn process(stat: &str, status: &str) -> Process {
        Process {
            pid: rustix::process::getpid(),
            stat: stat.to_owned(),
            status: status.to_owned(),
        }
    }

    #[test]
    fn a_process_is_known_by_its_id_in_its_own_namespace() {
        let of = |status| process("", status).inner_id();
        assert_eq!(of("Name:\tx\nNSpid:\t4711\t12\t1\nNSpgid:\t1\n"), Some(1));
        assert_eq!(of("NSpid:\t4711\n"), Some(4711));
        assert_eq!(of("Name:\tx\n"), None);
    }

    #[test]
    fn the_start_is_found_behind_any_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 98765 1 1";
        assert_eq!(process(stat, "").started(), Some(98765));
    }

    #[test]
    fn who_has_been_killed_or_exits_is_ending() {
        let stat = |flags| format!("7 (x) S 1 7 7 0 -1 {flags} 1 0 0 0 0");
        let status = |mask| format!("SigPnd:\t0000000000000000\nShdPnd:\t{mask}\n");
        let of = |flags, mask| process(&stat(flags), &status(mask)).is_ending();
        assert!(!of("4194304", "0000000000000000"));
        assert!(!of("4194304", "0000000000004000"));
        assert!(of("4194304", "0000000000000100"));
        assert!(of("4194308", "0000000000000000"));
    }

    #[test]
    fn a_child_is_ending_from_the_moment_that_it_is_killed() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_child(&child);
        assert!(!Process::read(pid).unwrap().is_ending());
        child.kill().unwrap();
        assert!(Process::read(pid).unwrap().is_ending());
        child.wait().unwrap();
        assert!(Process::read(pid).is_none());
    }
}
