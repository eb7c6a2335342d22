//! The processes that get their memory from a daemon.
//!
//! Those that they have made since are among them: a fork shares what has not come yet.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};
use stasis_linux::{Pidfd, pidfd::descend};

use crate::undo::Leftover;

/// How long a killed process may take to end and to be reaped.
const DEATH: Duration = Duration::from_secs(10);

/// A tree of processes, held by pidfds: its members are found also where the root is gone.
#[derive(Debug)]
pub(crate) struct LazyTree {
    processes: Vec<Pidfd>,
}

impl LazyTree {
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
            let found = self.processes.iter().filter_map(|one| one.children().ok());
            let found = found.flatten().collect();
            if !self.add(found) {
                break;
            }
        }
        self.send(Signal::KILL);
        let deadline = Instant::now() + DEATH;
        self.processes
            .into_iter()
            .filter(|process| !process.is_gone(deadline))
            .map(|process| Leftover::Process { pid: process.pid() })
            .collect()
    }

    fn send(&self, signal: Signal) {
        for process in &self.processes {
            process.send(signal);
        }
    }

    /// Adds these and their descendants. Whether any of them is new.
    fn add(&mut self, found: Vec<Pid>) -> bool {
        // The number of one that was reaped may be that of a new one.
        let there = self.processes.iter().filter(|one| !one.is_reaped());
        let mut known: HashSet<_> = there.map(Pidfd::pid).collect();
        let before = self.processes.len();
        descend(found, |pid| {
            let new = known.insert(pid).then(|| Pidfd::take(pid).ok()).flatten();
            let children = new.as_ref().and_then(|new| new.children().ok());
            self.processes.extend(new);
            children.unwrap_or_default()
        });
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
        let tree = LazyTree::of(pid);
        // The shell reads its end as an empty line.
        drop(shell.stdin.take());
        assert_eq!(lines.next().unwrap().unwrap(), "two");
        assert_eq!(tree.processes.len(), 2);
        assert_eq!(tree.processes[0].children().unwrap().len(), 2);

        assert_eq!(tree.end(), []);
        // Both had the pipe, and it has ended.
        assert!(lines.next().is_none());
        assert!(shell.try_wait().is_err(), "somebody else has reaped it");
    }
}
