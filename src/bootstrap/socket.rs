//! The socket on which the server answers containerd.
//!
//! `start` binds it and hands the listener down, so that containerd can connect as soon as it
//! has the address, whatever the server still has to do. Directory and name are those of the
//! shims in Go, except for what they add to the name under `-debug`.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{DirBuilderExt, FileTypeExt, PermissionsExt},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
};

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, listen, socket_with,
};

/// The length of `sun_path`, less the final NUL (unix(7)).
const MAX_PATH: usize = 107;

/// How many connections wait to be accepted, as in the standard library.
const BACKLOG: i32 = 128;

const SCHEME: &str = "unix://";

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path does not fit into a socket address.
    #[error(
        "the socket path {path} has {length} bytes, {MAX_PATH} is the most: \
         choose a shorter socket directory",
        path = path.display(), length = path.as_os_str().len()
    )]
    TooLong {
        /// The path.
        path: PathBuf,
    },
    /// The directory cannot be made.
    #[error("cannot make the socket directory {directory}", directory = directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The socket cannot be bound.
    #[error("cannot listen on {path}", path = path.display())]
    Bind {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The socket of a shim that has died cannot be removed.
    #[error("cannot remove the stale socket {path}", path = path.display())]
    Stale {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What came of binding the socket.
#[derive(Debug)]
pub enum Socket {
    /// It is bound and listens.
    Bound(UnixListener),
    /// A shim for the same id listens there already.
    InUse,
}

/// The path in an address of ours.
#[must_use]
pub fn path_of(address: &str) -> &Path {
    Path::new(address.strip_prefix(SCHEME).unwrap_or(address))
}

/// Binds the socket of `address`, for the owner alone. One that a dead shim left is replaced.
///
/// # Errors
/// If the path is too long, or the system refuses.
pub fn bind(address: &str) -> Result<Socket, Error> {
    let path = path_of(address);
    if path.as_os_str().len() > MAX_PATH {
        return Err(Error::TooLong { path: path.into() });
    }
    make_directory(path)?;
    match bind_private(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
        result => return bound(result, path),
    }
    // A file that is no socket refuses connections like the socket of a dead shim.
    if !fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
        return bound(Err(io::ErrorKind::AddrInUse.into()), path);
    }
    if is_alive(path) {
        return Ok(Socket::InUse);
    }
    remove(path).map_err(|source| Error::Stale {
        path: path.into(),
        source,
    })?;
    bound(bind_private(path), path)
}

/// Removes a socket file; one that is not there counts as removed.
///
/// # Errors
/// If the system refuses.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn bound(result: io::Result<UnixListener>, path: &Path) -> Result<Socket, Error> {
    result.map(Socket::Bound).map_err(|source| Error::Bind {
        path: path.into(),
        source,
    })
}

fn make_directory(path: &Path) -> Result<(), Error> {
    let Some(directory) = path.parent() else {
        return Ok(());
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|source| Error::Directory {
            directory: directory.into(),
            source,
        })
}

/// Nobody can connect before the mode is set, since nothing listens yet.
fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let socket = unix_socket(SocketFlags::CLOEXEC)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// Whether somebody listens. Only a refused connection proves that nobody does; it is not waited
/// for, since a shim with a full backlog is alive too.
fn is_alive(path: &Path) -> bool {
    let connected = unix_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
        .and_then(|socket| connect(&socket, &SocketAddrUnix::new(path)?));
    connected != Err(rustix::io::Errno::CONNREFUSED)
}

fn unix_socket(flags: SocketFlags) -> rustix::io::Result<OwnedFd> {
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(dir: &tempfile::TempDir) -> String {
        format!("unix://{}/s/socket", dir.path().display())
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn socket_and_directory_are_for_the_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let address = address(&dir);

        let socket = bind(&address).unwrap();

        assert!(matches!(socket, Socket::Bound(_)));
        assert_eq!(mode(path_of(&address)), 0o600);
        assert_eq!(mode(&dir.path().join("s")), 0o700);
    }

    #[test]
    fn the_socket_of_a_dead_shim_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let address = address(&dir);
        let path = path_of(&address);

        // It has never listened: one that did would do so a moment longer, where another test's
        // thread forks and the child has it open until it calls execve(2).
        make_directory(path).unwrap();
        let dead = unix_socket(SocketFlags::CLOEXEC).unwrap();
        rustix::net::bind(&dead, &SocketAddrUnix::new(path).unwrap()).unwrap();
        drop(dead);

        assert!(path.exists());
        assert!(matches!(bind(&address).unwrap(), Socket::Bound(_)));
    }

    #[test]
    fn the_socket_of_a_living_shim_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let address = address(&dir);
        let _living = bind(&address).unwrap();

        assert!(matches!(bind(&address).unwrap(), Socket::InUse));
        assert!(path_of(&address).exists());
    }

    #[test]
    fn a_path_that_does_not_fit_is_named() {
        let address = format!("unix:///{}", "a".repeat(107));

        let error = bind(&address).unwrap_err();

        assert!(
            error.to_string().contains("has 108 bytes, 107 is the most"),
            "{error}"
        );
    }

    #[test]
    fn a_file_that_is_no_socket_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let address = format!("unix://{}/file", dir.path().display());
        fs::write(path_of(&address), "precious").unwrap();

        bind(&address).unwrap_err();
        assert_eq!(fs::read(path_of(&address)).unwrap(), b"precious");
    }
}
