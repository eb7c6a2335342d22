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

use nix::unistd::Pid;
use rustix::{
    io::Errno,
    process::{WaitId, WaitIdOptions, waitid},
};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Process, ProcessExit, ProcessMonitor, Table, process};

pub(super) fn start(monitor: &Arc<ProcessMonitor>) -> io::Result<()> {
    let deaths = signal(SignalKind::child())?;
    // Else strays would pile up unseen, and every `runsc delete` would wait in vain.
    fs::metadata("/proc/thread-self/children").map_err(|error| {
        let why = "the kernel lists no children, it needs CONFIG_PROC_CHILDREN";
        io::Error::new(error.kind(), why)
    })?;
    // Here, and not when the task is first run: what has died before is reaped when this returns,
    // and from then on nothing is done until a child ends.
    sweep(monitor);
    tokio::spawn(run(Arc::downgrade(monitor), deaths));
    Ok(())
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
        let mut strays = match children() {
            Ok(pids) => pids,
            Err(error) => {
                tracing::warn!(%error, "cannot list children: strays stay unreaped");
                return;
            }
        };
        strays.retain(|&pid| !owned.owns(pid));
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
    let Some(id) = rustix::process::Pid::from_raw(pid.as_raw()) else {
        return false;
    };
    // Opened before the reaping, while the pid is certainly this child's, and only if somebody
    // may come to adopt it.
    let pidfd = if table.births > 0 {
        process::open(pid).ok()
    } else {
        None
    };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    // ECHILD: it was reaped since it was listed, by an owner that let go of it just now.
    let Ok(Some(status)) = waitid(WaitId::Pid(id), options) else {
        return false;
    };
    let exit = ProcessExit {
        pid,
        status: process::code(&status),
        timestamp: SystemTime::now(),
    };
    if let Some(pidfd) = pidfd {
        table.swept.insert(pid, Process::ended(pidfd, exit));
    }
    table.publish(exit);
    true
}

/// The children of every thread of this process, dead ones that were not reaped included.
fn children() -> io::Result<Vec<Pid>> {
    let mut pids = Vec::new();
    for thread in fs::read_dir("/proc/self/task")? {
        match fs::read_to_string(thread?.path().join("children")) {
            Ok(list) => {
                let numbers = list.split_whitespace().filter_map(|pid| pid.parse().ok());
                pids.extend(numbers.map(Pid::from_raw));
            }
            // A thread that has ended since: its children are another thread's now.
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::SRCH | Errno::NOENT) => {}
                _ => return Err(error),
            },
        }
    }
    Ok(pids)
}
