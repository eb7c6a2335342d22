//! The registry of child processes that somebody in this process waits for.
//!
//! A shim is a child subreaper: processes that nobody here started become its children too, and
//! its sweeper of strays must tell them from those whose status `tokio` or a pidfd is about to
//! fetch. Whoever starts or adopts a child therefore holds an [`Owned`] until the child is reaped,
//! and a fork and its entry are one step for whoever holds [`Children::lock`].
//!
//! The sweeper itself is in `crates/proc`.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nix::unistd::Pid;
use tokio::process::{Child, Command};

/// How often each pid is owned. A count, since a guard may be dropped after the pid that it
/// stands for was reaped and given to a new child.
type Counts = HashMap<Pid, usize>;

/// The registry. Clones share it; one process has one.
#[derive(Debug, Clone, Default)]
pub struct Children {
    counts: Arc<Mutex<Counts>>,
}

impl Children {
    /// Starts `command` and owns the child before anybody can ask whose it is.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn spawn(&self, command: &mut Command) -> io::Result<(Child, Owned)> {
        // Held across fork and exec, so that a child whose exec fails, which the standard library
        // reaps itself, is never taken for a stray either.
        let mut locked = self.lock();
        let child = command.spawn()?;
        // A child that was just started has an id; it has none only after it was waited for.
        let pid = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .map(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("a started process has no pid"))?;
        locked.add(pid);
        Ok((child, self.guard(pid)))
    }

    /// Owns a process that somebody is going to wait for by its pidfd.
    pub fn own(&self, pid: Pid) -> Owned {
        self.lock().add(pid);
        self.guard(pid)
    }

    /// Whether somebody waits for `pid`.
    #[must_use]
    pub fn owns(&self, pid: Pid) -> bool {
        self.lock().owns(pid)
    }

    /// Holds up every [`Children::spawn`] and [`Children::own`], for the time of a sweep.
    #[must_use]
    pub fn lock(&self) -> Locked<'_> {
        // A count is whole at every instant, so a panic elsewhere has broken nothing.
        Locked {
            counts: self.counts.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    fn guard(&self, pid: Pid) -> Owned {
        Owned {
            pid,
            children: self.clone(),
        }
    }
}

/// The registry, with nobody else forking.
#[derive(Debug)]
pub struct Locked<'a> {
    counts: MutexGuard<'a, Counts>,
}

impl Locked<'_> {
    /// Whether somebody waits for `pid`.
    #[must_use]
    pub fn owns(&self, pid: Pid) -> bool {
        self.counts.contains_key(&pid)
    }

    fn add(&mut self, pid: Pid) {
        *self.counts.entry(pid).or_default() += 1;
    }

    fn remove(&mut self, pid: Pid) {
        if let Some(count) = self.counts.get_mut(&pid) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&pid);
            }
        }
    }
}

/// Keeps a child from being taken for a stray. To be dropped when the child has been reaped.
#[derive(Debug)]
#[must_use = "dropping it lets the sweeper reap the process"]
pub struct Owned {
    pid: Pid,
    children: Children,
}

impl Owned {
    /// The process.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.children.lock().remove(self.pid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PID: Pid = Pid::from_raw(4711);

    #[test]
    fn a_process_is_owned_as_long_as_its_guard_lives() {
        let children = Children::default();
        let owned = children.own(PID);
        assert!(children.owns(PID));
        drop(owned);
        assert!(!children.owns(PID));
    }

    #[test]
    fn a_late_guard_does_not_disown_the_next_process_with_that_pid() {
        let children = Children::default();
        let late = children.own(PID);
        let next = children.own(PID);
        drop(late);
        assert!(children.owns(PID));
        drop(next);
        assert!(!children.owns(PID));
    }

    #[tokio::test]
    async fn a_started_child_is_owned_until_it_was_waited_for() {
        let children = Children::default();
        let (mut child, owned) = children.spawn(&mut Command::new("true")).expect("starts");
        assert!(children.clone().owns(owned.pid()));
        assert!(child.wait().await.expect("is waited for").success());
        let pid = owned.pid();
        drop(owned);
        assert!(!children.owns(pid));
    }

    #[tokio::test]
    async fn a_program_that_cannot_start_leaves_no_entry() {
        let children = Children::default();
        let error = children
            .spawn(&mut Command::new("/no/such/program"))
            .expect_err("no program");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(children.lock().counts.is_empty());
    }
}
