//! The processes that get their memory from a daemon.
//!
//! Those that they have made since are among them: a fork shares what has not come yet.

use std::{
    collections::HashSet,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions},
};

use crate::{swrk::children, undo::Leftover};

/// How long a killed process may take to end.
const DEATH: Duration = Duration::from_secs(2);
/// Deeper than any tree of processes.
const MAX_PROCESSES: usize = 1 << 16;

/// A tree of processes, held by pidfds: its members are found also where the root is gone.
#[derive(Debug)]
pub(super) struct Tree {
    processes: Vec<(Pid, OwnedFd)>,
}

impl Tree {
    /// The tree of `root`, as it is.
    pub fn of(root: Pid) -> Self {
        let mut tree = Self {
            processes: Vec::new(),
        };
        tree.add(vec![root]);
        tree
    }

    /// Ends all of it, and reaps what is this process's. Returns what is left.
    pub fn end(mut self) -> Vec<Leftover> {
        // Whoever forks meanwhile is found the next time round: killed parents fork no more.
        loop {
            for (_, pidfd) in &self.processes {
                // It may have ended.
                let _ = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
            }
            let found = self.processes.iter().flat_map(|(pid, _)| children(*pid));
            let found = found.collect();
            if !self.add(found) {
                break;
            }
        }
        let deadline = Instant::now() + DEATH;
        self.processes
            .into_iter()
            .filter(|(_, pidfd)| !ended(pidfd, deadline))
            .map(|(pid, _)| Leftover::Process { pid })
            .collect()
    }

    /// Adds these and their descendants. Whether any of them is new.
    fn add(&mut self, mut queue: Vec<Pid>) -> bool {
        let known: HashSet<_> = self.processes.iter().map(|(pid, _)| *pid).collect();
        let before = self.processes.len();
        while let Some(pid) = queue.pop() {
            let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty());
            if let (false, Ok(pidfd)) = (known.contains(&pid), pidfd) {
                self.processes.push((pid, pidfd));
                queue.extend(children(pid));
            }
            if self.processes.len() > MAX_PROCESSES {
                break;
            }
        }
        self.processes.len() > before
    }
}

/// Waits until `deadline` for the end of a process, and reaps it if it is ours.
fn ended(pidfd: &OwnedFd, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = Timespec {
        tv_sec: left.as_secs().try_into().unwrap_or_default(),
        tv_nsec: left.subsec_nanos().into(),
    };
    let mut poll = [PollFd::new(pidfd, PollFlags::IN)];
    let ended = rustix::event::poll(&mut poll, Some(&timeout)).is_ok_and(|ready| ready > 0);
    if ended {
        // Another's child is reaped by its own parent.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let _ = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options);
    }
    ended
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader},
        process::{Command, Stdio},
    };

    use super::*;

    #[test]
    fn a_tree_ends_with_those_that_came_later_and_is_reaped() {
        let script = "sleep 600 & echo one; read go; sleep 600 & echo two; wait";
        let mut shell = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(shell.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "one");
        let pid = Pid::from_child(&shell);
        let tree = Tree::of(pid);
        // The shell reads its end as an empty line.
        drop(shell.stdin.take());
        assert_eq!(lines.next().unwrap().unwrap(), "two");
        assert_eq!(tree.processes.len(), 2);
        assert_eq!(children(pid).len(), 2);

        assert_eq!(tree.end(), []);
        // Both had the pipe, and it has ended.
        assert!(lines.next().is_none());
        assert!(shell.try_wait().is_err(), "somebody else has reaped it");
    }
}
