//! What a killed CRIU leaves in the processes that it was dumping.
//!
//! Seen of CRIU 4.1.1 and 4.2.1 when killed: processes run on, most with a mapping of CRIU's;
//! some stay stopped, some have died; established TCP connections stay in repair mode, in which
//! they say nothing to their peers, and behind network rules.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    sync::Arc,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal},
};

use super::{Leftover, rules::Lock};
use crate::{swrk, sys};

/// Deeper and wider than any tree of processes.
const MAX_PROCESSES: usize = 1 << 16;

/// More descriptors than are looked at in one process.
const MAX_DESCRIPTORS: usize = 1 << 20;

/// The processes that a dump is of, as they were before it.
#[derive(Debug)]
pub(crate) struct Dumped(Vec<(Pid, OwnedFd)>);

impl Dumped {
    /// The tree of `root`.
    pub fn of(root: Pid) -> Self {
        let mut found = Vec::new();
        let mut queue = vec![root];
        while let Some(pid) = queue.pop() {
            // It may have ended.
            if let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
                found.push((pid, pidfd));
                if found.len() < MAX_PROCESSES {
                    queue.extend(swrk::children(pid));
                }
            }
        }
        Self(found)
    }

    /// Undoes what can be undone, and tells the rest. `run` is what the killed CRIU called its
    /// run.
    pub fn undo(self, run: Option<String>) -> Vec<Leftover> {
        let mut left = Vec::new();
        let mut lock = Lock {
            run,
            ..Lock::default()
        };
        for (pid, pidfd) in self.0 {
            if has_ended(&pidfd) {
                left.push(Leftover::Gone { pid });
                continue;
            }
            if lock.namespace.is_none() {
                lock.namespace = foreign_network(pid);
            }
            for (descriptor, socket) in sockets(pid, &pidfd) {
                lock.connections.extend(ends(&socket));
                let repair = sys::in_tcp_repair(socket.as_fd());
                if repair && sys::end_tcp_repair(socket.as_fd()).is_err() {
                    left.push(Leftover::Repair { pid, descriptor });
                }
            }
            // What traced it is gone; it may have been stopped by a signal for that.
            if state(pid) == Some('T') {
                let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::CONT);
                if state(pid) == Some('T') {
                    left.push(Leftover::Stopped { pid });
                }
            }
            if has_mapping(pid) {
                left.push(Leftover::Mapping { pid });
            }
        }
        left.extend(lock.open());
        left
    }
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut poll = [PollFd::new(pidfd, PollFlags::IN)];
    let now = Timespec::default();
    rustix::event::poll(&mut poll, Some(&now)).is_ok_and(|ready| ready > 0)
}

/// Its network namespace, if it is not that of this process.
fn foreign_network(pid: Pid) -> Option<Arc<OwnedFd>> {
    let its = fs::File::open(format!("/proc/{}/ns/net", pid.as_raw_pid())).ok()?;
    let ours = fs::metadata("/proc/self/ns/net").ok()?;
    let foreign = its.metadata().ok()?.ino() != ours.ino();
    foreign.then(|| Arc::new(its.into()))
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

fn state(pid: Pid) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.trim_start().chars().next()
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
