//! What a killed CRIU leaves in the processes that it was dumping.
//!
//! Seen of CRIU 4.1.1 and 4.2.1 when killed: processes run on, most with a mapping of CRIU's;
//! some stay stopped, some have died; established TCP connections stay in repair mode, in which
//! they say nothing to their peers, and behind network rules. A process that reads from such a
//! connection is told EPERM, and closes it: so the processes are stopped before CRIU is killed,
//! and go on when their connections do.

use std::{
    fs,
    io::{BufRead, BufReader},
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
    event::{PollFd, PollFlags, Timespec},
    process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal},
};

use super::{Leftover, rules::Lock};
use crate::{process::procfs::Entry, swrk, sys};

/// Deeper and wider than any tree of processes.
const MAX_PROCESSES: usize = 1 << 16;

/// How long processes may take to stop, and then to die of what CRIU left in them: without CRIU a
/// parasite ends in a trap, or takes itself out. Seen: some milliseconds.
const SETTLING: Duration = Duration::from_millis(100);

/// More descriptors than are looked at in one process.
const MAX_DESCRIPTORS: usize = 1 << 20;

/// The processes that a dump is of, as they were before it.
#[derive(Debug)]
pub(crate) struct Dumped(Vec<Process>);

#[derive(Debug)]
struct Process {
    pid: Pid,
    pidfd: OwnedFd,
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
        let mut queue = vec![root];
        while let Some(pid) = queue.pop() {
            // Who undoes what is left cannot be stopped for it.
            if pid == rustix::process::getpid() {
                continue;
            }
            // It may have ended.
            if let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
                found.push(Process {
                    pid,
                    pidfd,
                    was_stopped: is_stopped(pid),
                });
                if found.len() < MAX_PROCESSES {
                    queue.extend(swrk::children(pid));
                }
            }
        }
        Self(found)
    }

    /// Stops the processes, as soon as CRIU does not hold them: each thread, since one that is let
    /// go would run until another has taken the signal.
    pub fn stop(&self) {
        for Process { pid, pidfd, .. } in &self.0 {
            for thread in swrk::threads(*pid) {
                if !has_ended(pidfd) {
                    sys::stop_thread(*pid, thread);
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
            let _ = rustix::process::pidfd_send_signal(&process.pidfd, Signal::CONT);
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
        for Process { pid, pidfd, .. } in &self.0 {
            if lock.namespace.is_none() {
                lock.namespace = foreign_network(*pid);
            }
            for (descriptor, socket) in sockets(*pid, pidfd) {
                lock.connections.extend(ends(&socket));
                let repair = sys::in_tcp_repair(socket.as_fd());
                if repair && sys::end_tcp_repair(socket.as_fd()).is_err() {
                    left.push(Leftover::Repair {
                        pid: *pid,
                        descriptor,
                    });
                }
            }
        }
        left.extend(lock.open());
        left
    }
}

impl Process {
    fn is_still(&self) -> bool {
        is_stopped(self.pid) || has_ended(&self.pidfd)
    }

    fn left(&self) -> Option<Leftover> {
        let pid = self.pid;
        if has_ended(&self.pidfd) {
            return Some(Leftover::Gone { pid });
        }
        if !self.was_stopped && is_stopped(pid) {
            return Some(Leftover::Stopped { pid });
        }
        has_mapping(pid).then_some(Leftover::Mapping { pid })
    }
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut poll = [PollFd::new(pidfd, PollFlags::IN)];
    let now = Timespec::default();
    rustix::event::poll(&mut poll, Some(&now)).is_ok_and(|ready| ready > 0)
}

/// Its network namespace, if it is not that of this process.
fn foreign_network(pid: Pid) -> Option<Arc<OwnedFd>> {
    let its = entry(pid)?;
    // CRIU was started by a thread of this one's namespaces, whatever those of the others are.
    let ours = fs::metadata("/proc/thread-self/ns/net").ok()?;
    let foreign = its.namespace("net").ok()? != ours.ino();
    let namespace = its.open_namespace("net").ok().filter(|_| foreign);
    namespace.map(Arc::new)
}

/// Its sockets, by their descriptors there.
fn sockets(pid: Pid, pidfd: &OwnedFd) -> Vec<(i32, OwnedFd)> {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{}/fd", pid.as_raw_pid())) else {
        return Vec::new();
    };
    descriptors
        .filter_map(Result::ok)
        .take(MAX_DESCRIPTORS)
        .filter(|entry| {
            fs::read_link(entry.path()).is_ok_and(|target| {
                target
                    .as_os_str()
                    .as_encoded_bytes()
                    .starts_with(b"socket:")
            })
        })
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|descriptor| {
            let flags = PidfdGetfdFlags::empty();
            let socket = rustix::process::pidfd_getfd(pidfd.as_fd(), descriptor, flags);
            Some((descriptor, socket.ok()?))
        })
        .collect()
}

/// The two ends of a connection over IP.
fn ends(socket: &OwnedFd) -> Option<(SocketAddr, SocketAddr)> {
    let own = rustix::net::getsockname(socket).ok()?;
    let other = rustix::net::getpeername(socket).ok()??;
    Some((own.try_into().ok()?, other.try_into().ok()?))
}

/// Whether it is stopped by a signal.
fn is_stopped(pid: Pid) -> bool {
    let stat = entry(pid).and_then(|entry| entry.stat().ok());
    stat.is_some_and(|stat| stat.state == b'T')
}

/// What `/proc` has of it, unless it has been reaped.
fn entry(pid: Pid) -> Option<Entry> {
    Entry::open(pid.as_raw_pid().unsigned_abs()).ok()
}

fn has_mapping(pid: Pid) -> bool {
    let maps = fs::File::open(format!("/proc/{}/maps", pid.as_raw_pid()));
    maps.is_ok_and(|maps| {
        BufReader::new(maps)
            .lines()
            .map_while(Result::ok)
            .any(|line| line.contains("memfd:CRIUMFD"))
    })
}
