//! The sockets that a dump's pages go over, and how a cancelled dump is taken out of its waiting
//! for the other end of one.

use std::{
    fs,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use rustix::{
    net::{Shutdown, shutdown, sockopt},
    process::{Pid, PidfdFlags, PidfdGetfdFlags},
};

use crate::swrk::children;

/// The socket of a dump whose pages go elsewhere.
#[derive(Debug)]
pub(crate) enum PageSocket {
    /// One of ours, which CRIU inherits.
    Ours(Arc<OwnedFd>),
    /// One that CRIU connects to this address itself.
    ToServer(SocketAddr),
    /// One at whose port CRIU listens for the peer of a lazy dump.
    Listening(u16),
}

impl PageSocket {
    /// Shuts it, wherever it is: CRIU then fails in order. `swrk` is CRIU, if it is ours.
    ///
    /// The connection of a lazy dump is let be, since CRIU takes its end for success.
    pub fn shut(&self, swrk: Option<Pid>) {
        match self {
            Self::Ours(socket) => shut(socket),
            Self::ToServer(_) | Self::Listening(_) => {
                // A pre-dump is made by a child.
                let mut queue: Vec<Pid> = swrk.into_iter().collect();
                while let Some(pid) = queue.pop() {
                    self.sockets_of(pid).for_each(|socket| shut(&socket));
                    queue.extend(children(pid));
                }
            }
        }
    }

    /// Those of a process's sockets that are this one.
    fn sockets_of(&self, pid: Pid) -> impl Iterator<Item = OwnedFd> {
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok();
        let entries = fs::read_dir(format!("/proc/{}/fd", pid.as_raw_pid()));
        entries
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .filter(|entry| {
                fs::read_link(entry.path())
                    .is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
            })
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(move |number| {
                let pidfd = pidfd.as_ref()?;
                rustix::process::pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty()).ok()
            })
            .filter(|socket| self.is(socket))
    }

    fn is(&self, socket: &OwnedFd) -> bool {
        match self {
            Self::Ours(_) => false,
            Self::ToServer(server) => {
                address(rustix::net::getpeername(socket)).is_some_and(|peer| {
                    peer.ip().to_canonical() == server.ip().to_canonical()
                        && peer.port() == server.port()
                })
            }
            Self::Listening(port) => {
                sockopt::socket_acceptconn(socket).unwrap_or_default()
                    && address(rustix::net::getsockname(socket).map(Some))
                        .is_some_and(|at| at.port() == *port)
            }
        }
    }
}

fn address(name: rustix::io::Result<Option<rustix::net::SocketAddrAny>>) -> Option<SocketAddr> {
    name.ok().flatten()?.try_into().ok()
}

fn shut(socket: &impl AsFd) {
    // One that is not connected any more is shut.
    let _ = shutdown(socket, Shutdown::Both);
}
