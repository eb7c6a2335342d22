//! Sockets with another side.

use std::collections::BTreeSet;

use stasis_criu::{Options, options::External};

use crate::{Choices, SocketType, Tree};

/// What the sockets of a tree need.
///
/// Cedana sets `tcp_established` as soon as anything in the network namespace has a line in
/// `/proc/net/tcp`, listeners and other programs' sockets included, and a dump with it holds the
/// connections' traffic up; it sets `ext_unix_sk` where the *type* of a socket equals `AF_UNIX`,
/// which is to say for streams of any family. Here a socket counts if a process of the tree holds
/// it, by its inode, and the tables of the kernel say what it is.
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use stasis_plain::{Tree, adapters::Sockets};
///
/// let listener = TcpListener::bind("127.0.0.1:0").unwrap();
/// assert!(!Sockets::detect(&Tree::read(std::process::id())?).tcp_established);
/// let connection = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
/// assert!(Sockets::detect(&Tree::read(std::process::id())?).tcp_established);
/// # Ok::<(), stasis_plain::ProcessError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sockets {
    /// A socket of the tree is connected by TCP: `tcp_established`. `tcp_close` would do as well,
    /// and brings it back closed.
    pub tcp_established: bool,
    /// A datagram socket of the tree sends to a socket outside, or a stream is connected to one:
    /// `ext_unix_sk`.
    pub ext_unix_sk: bool,
    /// Streams whose other end is outside, by the inode of the end that is inside. `ext_unix_sk`
    /// alone does not dump them; `external unix[..]` does. They come back by a descriptor that is
    /// inherited as `socket:[INODE]`, or connect again by the path of the other end.
    pub halves: BTreeSet<u32>,
}

impl Sockets {
    /// Looks at the sockets of a tree.
    #[must_use]
    pub fn detect(tree: &Tree) -> Self {
        let mut found = Self::default();
        let held: BTreeSet<u64> = tree.files().map(|(_, file)| file.inode).collect();
        for &inode in &held {
            if let Some(socket) = tree.internet_socket(inode) {
                found.tcp_established |=
                    socket.kind == SocketType::Stream && socket.state.is_connected();
            }
            let Some(socket) = tree.unix_socket(inode) else {
                continue;
            };
            // A connection whose other end is closed already has no peer, and CRIU dumps it.
            let outside = tree.unix_peer(inode).filter(|peer| !held.contains(peer));
            if outside.is_some_and(|peer| peer != 0) {
                found.ext_unix_sk = true;
                if socket.kind != SocketType::Datagram {
                    // Inodes of sockets have 32 bits in CRIU, and in the kernel's tables.
                    found.halves.extend(u32::try_from(inode));
                }
            }
        }
        found
    }

    /// What the sockets of a tree needed when it was dumped.
    #[must_use]
    pub fn from_choices(choices: &Choices) -> Self {
        Self {
            tcp_established: choices.tcp_established,
            ext_unix_sk: choices.ext_unix_sk,
            halves: BTreeSet::new(),
        }
    }

    /// The streams whose other end is outside.
    #[must_use]
    pub fn externals(&self) -> Vec<External> {
        self.halves
            .iter()
            .map(|&inode| External::UnixSocket { inode })
            .collect()
    }

    /// Sets what they need, for a dump or a restore alike. What they do not need is left as it is.
    #[must_use]
    pub fn apply(&self, mut options: Options) -> Options {
        if self.tcp_established {
            options = options.tcp_established(true);
        }
        if self.ext_unix_sk {
            options = options.ext_unix_sk(true);
        }
        self.externals()
            .into_iter()
            .fold(options, Options::external_unless_named)
    }
}
