//! Sockets of the internet, which CRIU before 4.2 cannot dump on newer kernels.

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, sockopt},
};

use super::super::{ProcessError, Tree};
use crate::Version;

/// Refuses a tree with a socket of the internet, by the names of process and socket, where CRIU
/// `version` cannot dump it.
///
/// CRIU before 4.2 asks every socket for `SO_PASSCRED` and `SO_PASSSEC`, and fails in the middle of
/// the dump with "Can't get 1:16 socket opt" where a kernel answers only those that can have
/// it. Linux does since 6.16 (`sk_may_scm_recv`, `net/core/sock.c`); what this kernel does is
/// tried. [`Criu::dump`](crate::Criu::dump) asks here by itself.
///
/// ```
/// use stasis_criu::{Version, process::{Tree, adapters::refuse_internet_sockets}};
///
/// let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
/// let tree = Tree::read(std::process::id())?;
/// refuse_internet_sockets(&tree, &Version::new(4, 2, 0))?;
/// # Ok::<(), stasis_criu::process::ProcessError>(())
/// ```
///
/// # Errors
/// [`ProcessError::InternetSocket`] for the first process that holds one.
pub fn refuse_internet_sockets(tree: &Tree, version: &Version) -> Result<(), ProcessError> {
    if can_dump(version) {
        return Ok(());
    }
    for (process, file) in tree.files() {
        if let Some(socket) = tree.internet_socket(file.inode) {
            return Err(ProcessError::InternetSocket {
                pid: process.pid,
                fd: file.fd,
                address: socket.local,
                version: version.clone(),
            });
        }
    }
    Ok(())
}

/// Whether CRIU `version` can dump sockets of the internet on this kernel.
pub(crate) fn can_dump(version: &Version) -> bool {
    version.is_at_least(4, 2) || answers_pass_cred()
}

/// Whether a socket of the internet answers what has no meaning for it.
fn answers_pass_cred() -> bool {
    let (inet, datagrams) = (AddressFamily::INET, SocketType::DGRAM);
    let socket = rustix::net::socket_with(inet, datagrams, SocketFlags::CLOEXEC, None);
    // Where there is no such socket none is in the way.
    let Ok(socket) = socket else { return true };
    sockopt::socket_passcred(&socket) != Err(Errno::OPNOTSUPP)
}
