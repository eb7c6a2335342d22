//! What a killed CRIU leaves in the processes that it was dumping.
//!
//! Seen of CRIU 4.1.1 and 4.2.1 when killed: processes run on, most with a mapping of CRIU's;
//! some stay stopped, some have died; established TCP connections stay in repair mode, in which
//! they say nothing to their peers, and behind network rules. A process that reads from such a
//! connection is told EPERM, and closes it: so the processes are stopped before CRIU is killed,
//! and go on when their connections do.

use std::{
    fs,
    net::SocketAddr,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};

use super::{Leftover, rules::Lock};
use crate::{
    held::{Held, descend},
    process::procfs,
    sys,
};

/// How long processes may take to stop, and then to die of what CRIU left in them: without CRIU a
/// parasite ends in a trap, or takes itself out. Seen: some milliseconds.
const SETTLING: Duration = Duration::from_millis(100);

/// The processes that a dump is of, as they were before it.
#[derive(Debug)]
pub(crate) struct Dumped(Vec<Process>);

#[derive(Debug)]
struct Process {
    held: Held,
    /// Whether it had been stopped by a signal before.
    was_stopped: bool,
}

impl Dumped {
    /// Was there no such process?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tree of `root`.
    pub fn of(root: Pid) -> Self {
        let mut found = Vec::new();
        descend([root], |pid| {
            // Who undoes what is left cannot be stopped for it.
            let others = pid != rustix::process::getpid();
            // It may have ended.
            let held = Held::take(pid).ok().filter(|_| others);
            let children = held.as_ref().map(Held::children).unwrap_or_default();
            found.extend(held.map(|held| Process {
                was_stopped: is_stopped(&held),
                held,
            }));
            children
        });
        Self(found)
    }

    /// Stops the processes, as soon as CRIU does not hold them: each thread, since one that is let
    /// go would run until another has taken the signal.
    pub fn stop(&self) {
        for Process { held, .. } in &self.0 {
            for thread in procfs::threads(held.pid()) {
                if !held.has_ended() {
                    sys::stop_thread(held.pid(), thread);
                }
            }
        }
    }

    /// Undoes what can be undone after CRIU's death, and tells the rest. `run` is what CRIU called
    /// its run.
    pub fn undo(self, run: Option<String>) -> Vec<Leftover> {
        self.stop();
        let until = Instant::now() + SETTLING;
        while Instant::now() < until && !self.0.iter().all(Process::is_still) {
            thread::sleep(Duration::from_millis(1));
        }
        let mut left = self.connect(run);
        for process in self.0.iter().filter(|process| !process.was_stopped) {
            process.held.send(Signal::CONT);
        }
        thread::sleep(SETTLING);
        left.extend(self.0.iter().filter_map(Process::left));
        left
    }

    /// Ends repair mode, and removes network rules.
    fn connect(&self, run: Option<String>) -> Vec<Leftover> {
        let mut left = Vec::new();
        let mut lock = Lock {
            run,
            ..Lock::default()
        };
        for Process { held, .. } in &self.0 {
            if lock.namespace.is_none() {
                lock.namespace = foreign_network(held);
            }
            for (descriptor, socket) in held.sockets() {
                lock.connections.extend(ends(&socket));
                let repair = sys::in_tcp_repair(socket.as_fd());
                if repair && sys::end_tcp_repair(socket.as_fd()).is_err() {
                    let pid = held.pid();
                    left.push(Leftover::Repair { pid, descriptor });
                }
            }
        }
        left.extend(lock.open());
        left
    }
}

impl Process {
    fn is_still(&self) -> bool {
        is_stopped(&self.held) || self.held.has_ended()
    }

    fn left(&self) -> Option<Leftover> {
        let pid = self.held.pid();
        if self.held.has_ended() {
            return Some(Leftover::Gone { pid });
        }
        if !self.was_stopped && is_stopped(&self.held) {
            return Some(Leftover::Stopped { pid });
        }
        let maps = self.held.entry()?.maps("memfd:CRIUMFD");
        maps.is_ok_and(|found| found)
            .then_some(Leftover::Mapping { pid })
    }
}

/// Its network namespace, if it is not that of this process.
fn foreign_network(process: &Held) -> Option<Arc<OwnedFd>> {
    let its = process.entry()?;
    // CRIU was started by a thread of this one's namespaces, whatever those of the others are.
    let ours = fs::metadata("/proc/thread-self/ns/net").ok()?;
    let foreign = its.namespace("net").ok()? != ours.ino();
    let namespace = its.open_namespace("net").ok().filter(|_| foreign);
    namespace.map(Arc::new)
}

/// The two ends of a connection over IP.
fn ends(socket: &OwnedFd) -> Option<(SocketAddr, SocketAddr)> {
    let own = rustix::net::getsockname(socket).ok()?;
    let other = rustix::net::getpeername(socket).ok()??;
    Some((own.try_into().ok()?, other.try_into().ok()?))
}

/// Whether it is stopped by a signal.
fn is_stopped(process: &Held) -> bool {
    let stat = process.entry().and_then(|entry| entry.stat().ok());
    stat.is_some_and(|stat| stat.state == b'T')
}
