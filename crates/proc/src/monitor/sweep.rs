//! The sweeper: reaps the dead children that nobody owns.
//!
//! It lists the children of every thread (`/proc/self/task/*/children`, proc(5): a child
//! reparented to a subreaper hangs on one of its threads) and asks after each that is not in the
//! registry. Peeking with `waitid(P_ALL, WNOWAIT)` would not do: it shows the first zombie, again
//! and again, and an owned one that its owner has not reaped yet hides all behind it.

use std::{
    fs, io,
    sync::{Arc, Weak},
    time::SystemTime,
};

use nix::unistd;
use rustix::process::{Pid, WaitId, WaitIdOptions, getpid, waitid};
use stasis_linux::procfs;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    registry::{ProcessMonitor, Table},
    watched::{self, Watched},
};
use crate::exit::ProcessExit;

impl ProcessMonitor {
    /// Reaps strays from now on, for as long as the monitor lives. The caller has made this
    /// process a subreaper, and everything it forks is in the registry.
    ///
    /// # Errors
    /// If SIGCHLD cannot be listened to, or the kernel does not list children.
    pub fn start_sweeper(self: &Arc<Self>) -> io::Result<()> {
        let deaths = signal(SignalKind::child())?;
        // Else strays would pile up unseen, and every `runsc delete` would wait in vain.
        fs::metadata("/proc/thread-self/children").map_err(|error| {
            let why = "the kernel lists no children, it needs CONFIG_PROC_CHILDREN";
            io::Error::new(error.kind(), why)
        })?;
        // Here, and not when the task is first run: what has died before is reaped when this
        // returns, and from then on nothing is done until a child ends.
        sweep(self);
        tokio::spawn(run(Arc::downgrade(self), deaths));
        Ok(())
    }
}

/// Sweeps whenever a child has ended. SIGCHLD coalesces, so one tells of many.
async fn run(monitor: Weak<ProcessMonitor>, mut deaths: Signal) {
    while deaths.recv().await.is_some() {
        let Some(monitor) = monitor.upgrade() else {
            return;
        };
        sweep(&monitor);
    }
}

/// Reaps every dead stray.
fn sweep(monitor: &ProcessMonitor) {
    let mut table = monitor.table();
    // The registry stays locked: a child forked between the list and the reaping would be taken
    // from its owner.
    let owned = monitor.children.lock();
    loop {
        let mut strays = match procfs::children(getpid()) {
            Ok(pids) => pids,
            Err(error) => {
                tracing::warn!(%error, "cannot list children: strays stay unreaped");
                return;
            }
        };
        strays.retain(|&pid| !owned.owns(unistd::Pid::from_raw(pid.as_raw_pid())));
        // Each reaping shortens the lists, which the kernel walks by position, so that one read
        // meanwhile may skip a child: only a pass that reaped nothing has seen all.
        if strays
            .into_iter()
            .filter(|&pid| reap(&mut table, pid))
            .count()
            == 0
        {
            return;
        }
    }
}

/// Reaps `pid` if it has ended; says whether it had.
fn reap(table: &mut Table, pid: Pid) -> bool {
    let id = unistd::Pid::from_raw(pid.as_raw_pid());
    // Opened before the reaping, while the pid is certainly this child's, and only if somebody
    // may come to adopt it.
    let pidfd = if table.births > 0 {
        watched::open(id).ok()
    } else {
        None
    };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    // ECHILD: it was reaped since it was listed, by an owner that let go of it just now.
    let Ok(Some(status)) = waitid(WaitId::Pid(pid), options) else {
        return false;
    };
    let exit = ProcessExit {
        pid: id,
        status: watched::code(&status),
        timestamp: SystemTime::now(),
    };
    if let Some(pidfd) = pidfd {
        table.swept.insert(id, Watched::ended(pidfd, exit));
    }
    table.publish(exit);
    true
}
