//! Reaping, by pidfd first.
//!
//! Three kinds of children end in a shim, and each is reaped by one owner only:
//! - what this process forked is waited for where it was forked (`tokio::process`), and is in the
//!   registry [`Children`] meanwhile;
//! - the processes of containers are reparented to us, the subreaper, when the runtime that made
//!   them exits. [`Birth::adopt`] takes them over: a pidfd, an entry in the registry and a task
//!   that waits with `waitid(P_PIDFD)` ([`process`]);
//! - strays, children that nobody owns (runsc's gofer, orphans of a container without a PID
//!   namespace), are reaped by the sweeper ([`sweep`]) when SIGCHLD tells of a death.
//!
//! A container's init may end between the exit of its runtime and its adoption, and the sweeper
//! cannot know whose it was. So while a [`Birth`] is expected, what is swept is kept in reach:
//! adopting a pid that was swept during the birth gives a [`Process`] that has ended, with the
//! right status. Sweeping is not suspended meanwhile, since runtimes wait in the middle of their
//! work for us to reap (`runsc delete` for its gofer, for five seconds).
//!
//! The kernel must be 5.4 or later, for `P_PIDFD`.

mod process;
mod sweep;

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard},
    time::SystemTime,
};

use nix::unistd::Pid;
use stasis_engine::Children;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub use process::Process;

use crate::sync::lock;

/// The end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessExit {
    /// Which process.
    pub pid: Pid,
    /// Its exit code, or 128 and the signal that ended it.
    pub status: u32,
    /// When it was reaped.
    pub timestamp: SystemTime,
}

/// Watches the processes of containers, and reaps them and all strays.
#[derive(Debug)]
pub struct ProcessMonitor {
    children: Children,
    table: Mutex<Table>,
}

/// What the monitor knows. Locked before the registry of children, never after.
#[derive(Debug, Default)]
struct Table {
    /// How many births are expected.
    births: usize,
    /// What was swept since the first of them.
    swept: HashMap<Pid, Process>,
    subscribers: Vec<UnboundedSender<ProcessExit>>,
}

impl Table {
    /// Tells the subscribers, and forgets those that are gone.
    fn publish(&mut self, exit: ProcessExit) {
        self.subscribers
            .retain(|subscriber| subscriber.send(exit).is_ok());
    }
}

impl ProcessMonitor {
    /// A monitor that leaves the children in `children` to their owners.
    #[must_use]
    pub fn new(children: Children) -> Arc<Self> {
        Arc::new(Self {
            children,
            table: Mutex::default(),
        })
    }

    /// The registry of children that somebody in this process waits for.
    #[must_use]
    pub fn children(&self) -> &Children {
        &self.children
    }

    /// Reaps strays from now on, for as long as the monitor lives. The caller has made this
    /// process a subreaper, and everything it forks is in the registry.
    ///
    /// # Errors
    /// If SIGCHLD cannot be listened to, or the kernel does not list children.
    pub fn start_sweeper(self: &Arc<Self>) -> io::Result<()> {
        sweep::start(self)
    }

    /// Every end of a process that is reaped here, strays included, from now on. Dropping the
    /// subscription ends it.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        let (sender, receiver) = unbounded_channel();
        self.table().subscribers.push(sender);
        Subscription(receiver)
    }

    /// Announces a process that will be reparented to us. To be held while the runtime works.
    #[must_use]
    pub fn expect_birth(self: &Arc<Self>) -> Birth {
        self.table().births += 1;
        Birth {
            monitor: Arc::clone(self),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }
}

/// Exits as they are reaped: see [`ProcessMonitor::subscribe`].
#[derive(Debug)]
pub struct Subscription(UnboundedReceiver<ProcessExit>);

impl Subscription {
    /// The next exit; `None` if the monitor is gone.
    pub async fn recv(&mut self) -> Option<ProcessExit> {
        self.0.recv().await
    }
}

/// The promise of a process to adopt: see [`ProcessMonitor::expect_birth`].
#[derive(Debug)]
pub struct Birth {
    monitor: Arc<ProcessMonitor>,
}

impl Birth {
    /// Takes over the process `pid`, whether it still runs or has ended since the birth was
    /// announced. Needs a tokio runtime.
    ///
    /// # Errors
    /// If there is no such process, if it is no child of ours, or if no descriptor is left.
    pub fn adopt(self, pid: Pid) -> io::Result<Process> {
        let mut table = self.monitor.table();
        match (process::open_child(pid), table.swept.remove(&pid)) {
            (Ok(pidfd), _) => Process::watch(&self.monitor, pid, pidfd),
            // It was swept; whoever has its pid by now is no child of ours.
            (Err(_), Some(swept)) => Ok(swept),
            (Err(error), None) => Err(error),
        }
    }
}

impl Drop for Birth {
    fn drop(&mut self) {
        let mut table = self.monitor.table();
        table.births -= 1;
        if table.births == 0 {
            table.swept.clear();
        }
    }
}
