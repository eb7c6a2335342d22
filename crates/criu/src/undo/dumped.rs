//! What a killed CRIU leaves in the processes that it was dumping.
//!
//! Seen of CRIU 4.1.1 and 4.2.1 when killed: processes run on, most with a mapping of CRIU's;
//! some stay stopped, some have died; established TCP connections stay in repair mode, in which
//! they say nothing to their peers.

use std::{
    collections::HashSet,
    fs,
    io::{BufRead, BufReader},
    os::fd::{AsFd, OwnedFd},
};

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal};

use super::Leftover;
use crate::{swrk, sys};

/// More descriptors than are looked at in one process.
const MAX_DESCRIPTORS: usize = 1 << 20;

/// Undoes what can be undone in the tree of `root`, and tells the rest.
pub(super) fn undo(root: Pid) -> Vec<Leftover> {
    let mut left = Vec::new();
    let mut queue = vec![root];
    let mut seen = HashSet::new();
    while let Some(pid) = queue.pop() {
        if !seen.insert(pid.as_raw_pid()) {
            continue;
        }
        queue.extend(swrk::children(pid));
        let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else {
            left.push(Leftover::Gone { pid });
            continue;
        };
        left.extend(end_repair(pid, &pidfd));
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
    left
}

/// Takes the TCP sockets of a process out of repair mode.
fn end_repair(pid: Pid, pidfd: &OwnedFd) -> Vec<Leftover> {
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
            let socket =
                rustix::process::pidfd_getfd(pidfd.as_fd(), descriptor, PidfdGetfdFlags::empty())
                    .ok()?;
            if !sys::in_tcp_repair(socket.as_fd()) {
                return None;
            }
            let ended = sys::end_tcp_repair(socket.as_fd());
            ended.err().map(|_| Leftover::Repair { pid, descriptor })
        })
        .collect()
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
