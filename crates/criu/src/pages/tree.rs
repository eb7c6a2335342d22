//! The processes that get their memory from a daemon.
//!
//! Those that they have made since are among them: a fork shares what has not come yet.

use std::{
    collections::HashSet,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::process::{Pid, PidfdFlags, Signal};

use crate::{
    swrk::children,
    undo::{Leftover, is_gone},
};

/// How long a killed process may take to end and to be reaped.
const DEATH: Duration = Duration::from_secs(10);
/// Deeper than any tree of processes.
const MAX_PROCESSES: usize = 1 << 16;

/// A tree of processes, held by pidfds: its members are found also where the root is gone.
#[derive(Debug)]
pub(crate) struct Tree {
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

    /// Ends all of it, and waits until all of it is reaped, what is this process's by this process.
    /// Returns what is left.
    pub fn end(mut self) -> Vec<Leftover> {
        // Whoever forks meanwhile is found the next time round: who is stopped forks no more, and
        // is still the parent of those whom it has made.
        loop {
            self.send(Signal::STOP);
            let found = self.processes.iter().flat_map(|(pid, _)| children(*pid));
            let found = found.collect();
            if !self.add(found) {
                break;
            }
        }
        self.send(Signal::KILL);
        let deadline = Instant::now() + DEATH;
        self.processes
            .into_iter()
            .filter(|(_, pidfd)| !is_gone(pidfd, deadline))
            .map(|(pid, _)| Leftover::Process { pid })
            .collect()
    }

    fn send(&self, signal: Signal) {
        for (_, pidfd) in &self.processes {
            // It may have ended.
            let _ = rustix::process::pidfd_send_signal(pidfd, signal);
        }
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
