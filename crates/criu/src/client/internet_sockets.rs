//! Sockets of the internet, which CRIU before 4.2 cannot dump on newer kernels.
//!
//! It asks every socket for `SO_PASSCRED` and `SO_PASSSEC`, and fails in the middle of the dump with
//! "Can't get 1:16 socket opt" where a kernel answers only those that can have it. Linux does since
//! 6.16 (`sk_may_scm_recv`, `net/core/sock.c`); what this kernel does is tried.

use std::{collections::HashMap, net::SocketAddr};

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, sockopt},
    process::Pid,
};
use stasis_linux::{
    Pidfd,
    pidfd::descend,
    procfs::{Entry, FileKind},
};
use thiserror::Error;

use crate::Version;

/// A socket of the internet, which this CRIU cannot dump on this kernel.
#[derive(Debug, Error)]
#[error(
    "process {pid} has the socket {address} (descriptor {fd}), which CRIU {version} cannot dump on \
     this kernel: CRIU 4.2 can"
)]
pub struct UndumpableSocket {
    /// Which process has it.
    pub pid: u32,
    /// Its descriptor there.
    pub fd: u32,
    /// Its own address.
    pub address: SocketAddr,
    /// The CRIU.
    pub version: Version,
}

/// Refuses the tree of `root` if it has a socket that CRIU `version` cannot dump. What cannot be
/// looked at CRIU has its own word for.
pub(super) fn refuse(root: Option<Pid>, version: &Version) -> Result<(), UndumpableSocket> {
    if version.is_at_least(4, 2) || answers_pass_cred() {
        return Ok(());
    }
    let mut refused = None;
    descend(root, |pid| {
        let pid_number = pid.as_raw_pid().unsigned_abs();
        if refused.is_none() {
            refused = socket_of(pid_number).map(|(fd, address)| UndumpableSocket {
                pid: pid_number,
                fd,
                address,
                version: version.clone(),
            });
        }
        let children = Pidfd::take(pid).ok().and_then(|held| held.children().ok());
        children.filter(|_| refused.is_none()).unwrap_or_default()
    });
    refused.map_or(Ok(()), Err)
}

/// A socket of the internet that a process has, with its descriptor there.
fn socket_of(pid: u32) -> Option<(u32, SocketAddr)> {
    let process = Entry::open(pid).ok()?;
    let files = process.open_files().ok()?.into_iter();
    let sockets: HashMap<_, _> = files
        .filter(|file| file.kind == FileKind::Socket)
        .map(|file| (file.inode, file.fd))
        .collect();
    if sockets.is_empty() {
        return None;
    }
    let held = |inode| sockets.contains_key(&inode);
    let found = process.internet_sockets(&held).ok()?;
    found
        .first()
        .map(|socket| (sockets[&socket.inode], socket.local))
}

/// Whether a socket of the internet answers what has no meaning for it.
fn answers_pass_cred() -> bool {
    let (inet, datagrams) = (AddressFamily::INET, SocketType::DGRAM);
    let socket = rustix::net::socket_with(inet, datagrams, SocketFlags::CLOEXEC, None);
    // Where there is no such socket none is in the way.
    let Ok(socket) = socket else { return true };
    sockopt::socket_passcred(&socket) != Err(Errno::OPNOTSUPP)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_socket_is_found_with_its_descriptor_and_is_no_hindrance_to_a_newer_criu() {
        let _listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (fd, _) = socket_of(std::process::id()).unwrap();
        let link = std::fs::read_link(format!("/proc/self/fd/{fd}"));
        assert!(link.unwrap().to_string_lossy().starts_with("socket:["));
        refuse(Some(rustix::process::getpid()), &Version::new(4, 2, 0)).unwrap();
    }
}
