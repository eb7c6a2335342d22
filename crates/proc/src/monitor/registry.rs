//! Who watches what, and what was swept while a birth is expected.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use nix::unistd::Pid;
use stasis_engine::Children;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::watched::{Watched, open_child};
use crate::{exit::ProcessExit, sync::lock};

/// Watches the processes of containers, and reaps them and all strays.
#[derive(Debug)]
pub struct ProcessMonitor {
    pub(super) children: Children,
    table: Mutex<Table>,
}

/// What the monitor knows. Locked before the registry of children, never after.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// How many births are expected.
    pub(super) births: usize,
    /// What was swept since the first of them.
    pub(super) swept: HashMap<Pid, Watched>,
    pub(super) subscribers: Vec<UnboundedSender<ProcessExit>>,
}

impl Table {
    /// Tells the subscribers, and forgets those that are gone.
    pub(super) fn publish(&mut self, exit: ProcessExit) {
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

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
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
    pub fn adopt(self, pid: Pid) -> io::Result<Watched> {
        let mut table = self.monitor.table();
        match (open_child(pid), table.swept.remove(&pid)) {
            (Ok(pidfd), _) => {
                let monitor = Arc::clone(&self.monitor);
                Watched::watch(&self.monitor.children, pid, pidfd, move |exit| {
                    monitor.table().publish(exit);
                })
            }
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
