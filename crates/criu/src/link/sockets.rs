//! The sockets that a dump's pages go over, and how a cancelled dump is taken out of its waiting
//! for the other end of one.

use std::{
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use rustix::{
    net::{Shutdown, shutdown, sockopt},
    process::Pid,
};

use stasis_linux::{Pidfd, pidfd::descend};

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
                descend(swrk, |pid| {
                    // It may have ended.
                    let Ok(held) = Pidfd::take(pid) else {
                        return Vec::new();
                    };
                    for (_, socket) in held.sockets() {
                        if self.is(&socket) {
                            shut(&socket);
                        }
                    }
                    held.children().unwrap_or_default()
                });
            }
        }
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
