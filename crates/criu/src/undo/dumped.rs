//! What a killed CRIU leaves in the processes that it was dumping.
//!
//! Seen of CRIU 4.1.1 and 4.2.1 when killed: processes run on, most with a mapping of CRIU's;
//! some stay stopped, some have died; established TCP connections stay in repair mode, in which
//! they say nothing to their peers, and behind network rules. A process that reads from such a
//! connection is told EPERM, and closes it: so the processes are stopped before CRIU is killed,
//! and go on when their connections do.

use std::{
    fs, io,
    net::SocketAddr,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal},
};
use stasis_linux::{
    Pidfd,
    pidfd::descend,
    procfs::{self, Entry, Stat},
    sys,
};

use super::{
    leftover::Leftover,
    rules::{Lock, Network},
};

/// How long processes may take to stop, and then to die of what CRIU left in them: without CRIU a
/// parasite ends in a trap, or takes itself out. Seen: some milliseconds.
const SETTLING: Duration = Duration::from_millis(100);

/// The processes that a dump is of, as they were before it.
#[derive(Debug)]
pub(crate) struct DumpRecovery(Vec<Seized>);

/// A process by its number and its start, since a pidfd of each would take as many descriptors as
/// there are processes, for as long as the dump takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seized {
    pid: Pid,
    started: u64,
    /// Whether it had been stopped by a signal before.
    was_stopped: bool,
}

impl DumpRecovery {
    /// Was there no such process?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tree of `root`.
    pub fn of(root: Pid) -> io::Result<Self> {
        let mut found = Vec::new();
        let mut failed = None;
        descend([root], |pid| {
            // Who undoes what is left cannot be stopped for it.
            if pid == rustix::process::getpid() {
                return Vec::new();
            }
            let seen = hold(pid).and_then(|there| {
                // It may have ended.
                let Some((held, stat)) = there else {
                    return Ok(Vec::new());
                };
                found.push(Seized {
                    pid,
                    started: stat.started,
                    was_stopped: is_stopped(&stat),
                });
                held.children()
            });
            seen.unwrap_or_else(|error| {
                failed = Some(error);
                Vec::new()
            })
        });
        failed.map_or(Ok(Self(found)), Err)
    }

    /// Stops the processes, as soon as CRIU does not hold them: each thread, since one that is let
    /// go would run until another has taken the signal.
    pub fn stop(&self) {
        for process in &self.0 {
            // Whoever cannot be reached now is told of by `undo`.
            let Ok(Some((held, _))) = process.hold() else {
                continue;
            };
            for thread in procfs::threads(process.pid).unwrap_or_default() {
                if !held.has_ended() {
                    sys::stop_thread(process.pid, thread);
                }
            }
        }
    }

    /// Undoes what can be undone after CRIU's death, and tells the rest. `run` is what CRIU called
    /// its run.
    pub fn undo(self, run: Option<String>) -> Vec<Leftover> {
        self.stop();
        let until = Instant::now() + SETTLING;
        while Instant::now() < until && !self.0.iter().all(Seized::is_still) {
            thread::sleep(Duration::from_millis(1));
        }
        let mut left = self.connect(run);
        for process in self.0.iter().filter(|process| !process.was_stopped) {
            if let Ok(Some((held, _))) = process.hold() {
                held.send(Signal::CONT);
            }
        }
        thread::sleep(SETTLING);
        for leftover in self.0.iter().filter_map(Seized::left) {
            // One that cannot be reached is met twice.
            if !left.contains(&leftover) {
                left.push(leftover);
            }
        }
        left
    }

    /// Ends repair mode, and removes network rules.
    fn connect(&self, run: Option<String>) -> Vec<Leftover> {
        let mut left = Vec::new();
        let mut lock = Lock {
            run,
            ..Lock::default()
        };
        for process in &self.0 {
            let pid = process.pid;
            let held = match process.hold() {
                Ok(Some((held, _))) => held,
                Ok(None) => continue,
                Err(_) => {
                    left.push(Leftover::Unreached { pid });
                    continue;
                }
            };
            if lock.network.is_none() {
                lock.network = foreign_network(&held);
            }
            for (descriptor, socket) in held.sockets() {
                lock.connections.extend(ends(&socket));
                let repair = sys::in_tcp_repair(socket.as_fd());
                if repair && sys::end_tcp_repair(socket.as_fd()).is_err() {
                    left.push(Leftover::Repair { pid, descriptor });
                }
            }
        }
        left.extend(lock.open());
        left
    }
}

impl Seized {
    /// Takes hold of it, unless it has been reaped.
    fn hold(&self) -> io::Result<Option<(Pidfd, Stat)>> {
        Ok(hold(self.pid)?.filter(|(_, stat)| stat.started == self.started))
    }

    fn is_still(&self) -> bool {
        match self.hold() {
            Ok(Some((held, stat))) => is_stopped(&stat) || held.has_ended(),
            Ok(None) | Err(_) => true,
        }
    }

    fn left(&self) -> Option<Leftover> {
        let pid = self.pid;
        let (held, stat) = match self.hold() {
            Ok(Some((held, stat))) if !held.has_ended() => (held, stat),
            Ok(_) => return Some(Leftover::Gone { pid }),
            Err(_) => return Some(Leftover::Unreached { pid }),
        };
        if !self.was_stopped && is_stopped(&stat) {
            return Some(Leftover::Stopped { pid });
        }
        let maps = held.entry()?.maps("memfd:CRIUMFD");
        maps.is_ok_and(|found| found)
            .then_some(Leftover::Mapping { pid })
    }
}

/// Takes hold of the process that has this number now, and looks at it. None if there is none.
fn hold(pid: Pid) -> io::Result<Option<(Pidfd, Stat)>> {
    let held = match Pidfd::take(pid) {
        Ok(held) => held,
        // The latter two: it is the number of a thread, of which CRIU has its own word.
        Err(Errno::SRCH | Errno::NOENT | Errno::INVAL) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let entry = Entry::open(pid.as_raw_pid().unsigned_abs());
    match entry.and_then(|entry| entry.stat()) {
        // As in `Pidfd::entry`.
        Ok(stat) if !held.is_reaped() => Ok(Some((held, stat))),
        Ok(_) | Err(procfs::Error::Gone { .. }) => Ok(None),
        Err(procfs::Error::Read { source, .. }) => Err(source),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// Its network namespace, if it is not that of this process.
fn foreign_network(process: &Pidfd) -> Option<Network> {
    let its = process.entry()?;
    // CRIU was started by a thread of this one's namespaces, whatever those of the others are.
    let ours = fs::metadata("/proc/thread-self/ns/net").ok()?;
    let foreign = its.namespace("net").ok()? != ours.ino();
    let namespace = its.open_namespace("net").ok().filter(|_| foreign);
    namespace.map(|namespace| Network {
        namespace: Arc::new(namespace),
        of: process.pid(),
    })
}

/// The two ends of a connection over IP.
fn ends(socket: &OwnedFd) -> Option<(SocketAddr, SocketAddr)> {
    let own = rustix::net::getsockname(socket).ok()?;
    let other = rustix::net::getpeername(socket).ok()??;
    Some((own.try_into().ok()?, other.try_into().ok()?))
}

/// Whether it is stopped by a signal.
fn is_stopped(stat: &Stat) -> bool {
    stat.state == b'T'
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_known_by_its_start_whoever_has_its_number() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let DumpRecovery(tree) = DumpRecovery::of(Pid::from_child(&child)).unwrap();
        let [process] = tree[..] else {
            panic!("{tree:?}");
        };
        assert!(process.hold().unwrap().is_some());
        let earlier = Seized {
            started: process.started - 1,
            ..process
        };
        assert!(earlier.hold().unwrap().is_none());
        let pid = process.pid;
        assert_eq!(earlier.left(), Some(Leftover::Gone { pid }));
        DumpRecovery(vec![earlier]).stop();
        assert_eq!(process.left(), None, "a stranger is stopped");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(DumpRecovery::of(pid).unwrap().is_empty());
    }
}
