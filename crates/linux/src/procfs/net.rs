//! The tables of sockets: `/proc/PID/net/tcp`, `tcp6`, `udp`, `udp6` and `unix`.
//!
//! They are of the whole network namespace; whose a socket is, its inode tells.

use std::{
    ffi::OsString,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::ffi::OsStringExt,
    path::PathBuf,
};

use crate::lines::text;

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// `AF_UNIX`.
    Unix,
    /// `AF_INET`.
    Inet,
    /// `AF_INET6`.
    Inet6,
}

impl Family {
    /// Its number in Linux.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::Unix => 1,
            Self::Inet => 2,
            Self::Inet6 => 10,
        }
    }
}

/// What a socket does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SocketType {
    /// A stream.
    Stream,
    /// Datagrams.
    Datagram,
    /// Datagrams in order over a connection.
    SequencedPacket,
}

impl SocketType {
    /// Its number in Linux.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::Stream => 1,
            Self::Datagram => 2,
            Self::SequencedPacket => 5,
        }
    }
}

/// The tables, and what is in them.
pub(super) const TABLES: [(&str, Family, SocketType); 4] = [
    ("tcp", Family::Inet, SocketType::Stream),
    ("tcp6", Family::Inet6, SocketType::Stream),
    ("udp", Family::Inet, SocketType::Datagram),
    ("udp6", Family::Inet6, SocketType::Datagram),
];

/// The state of a TCP socket (the kernel's tcp_states.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TcpState(u8);

impl TcpState {
    /// Is there another side, to which the kernel may still have to speak? That is when CRIU asks
    /// for tcp-established or tcp-close.
    #[must_use]
    pub fn is_connected(self) -> bool {
        // Established, SYN sent, FIN wait 1 and 2, close wait, last ACK, closing. Not: SYN
        // received, which is a connection that nobody accepted yet; time wait and close, which
        // have no other side any more; listen.
        matches!(self.0, 1 | 2 | 4 | 5 | 8 | 9 | 11)
    }

    /// Its name, as netstat(8) has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            1 => "ESTABLISHED",
            2 => "SYN_SENT",
            3 => "SYN_RECV",
            4 => "FIN_WAIT1",
            5 => "FIN_WAIT2",
            6 => "TIME_WAIT",
            7 => "CLOSE",
            8 => "CLOSE_WAIT",
            9 => "LAST_ACK",
            10 => "LISTEN",
            11 => "CLOSING",
            _ => "UNKNOWN",
        }
    }
}

/// A socket of TCP or UDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InternetSocket {
    /// IPv4 or IPv6.
    pub family: Family,
    /// TCP is a stream, UDP are datagrams.
    pub kind: SocketType,
    /// Its own address.
    pub local: SocketAddr,
    /// The other side's.
    pub remote: SocketAddr,
    /// Its state, which UDP has in part.
    pub state: TcpState,
    /// Its inode.
    pub inode: u64,
}

impl InternetSocket {
    /// A line of a table; the heading is none.
    pub(super) fn parse(line: &[u8], family: Family, kind: SocketType) -> Option<Self> {
        let mut words = words(line).skip(1);
        let local = address(words.next()?)?;
        let remote = address(words.next()?)?;
        let state = u8::from_str_radix(std::str::from_utf8(words.next()?).ok()?, 16).ok()?;
        // Queues, timer, retransmissions, user, timeout.
        let inode = text(words.nth(5)?)?;
        Some(Self {
            family,
            kind,
            local,
            remote,
            state: TcpState(state),
            inode,
        })
    }
}

/// A Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixSocket {
    /// What it does with bytes.
    pub kind: SocketType,
    /// Does it wait for connections?
    pub listens: bool,
    /// Has it another side?
    pub connected: bool,
    /// Its inode.
    pub inode: u64,
    /// Its name, if it has one; an abstract name begins with `@`.
    pub path: Option<PathBuf>,
}

impl UnixSocket {
    /// A line of the table; the heading is none.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        /// `__SO_ACCEPTCON`, which is how the kernel shows that a socket listens.
        const LISTENS: u32 = 1 << 16;
        /// `SS_CONNECTED`.
        const CONNECTED: u32 = 3;
        let hex = |word: &[u8]| u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok();
        // A name may contain blanks, and is all that comes after the inode and one blank: so not
        // by words, but word by word.
        let mut rest = line;
        for _ in 0..3 {
            word(&mut rest)?;
        }
        let flags = hex(word(&mut rest)?)?;
        let kind = match hex(word(&mut rest)?)? {
            1 => SocketType::Stream,
            2 => SocketType::Datagram,
            5 => SocketType::SequencedPacket,
            _ => return None,
        };
        let state = hex(word(&mut rest)?)?;
        let inode = text(word(&mut rest)?)?;
        let path = rest.get(1..).filter(|path| !path.is_empty());
        Some(Self {
            kind,
            listens: flags & LISTENS != 0,
            connected: state == CONNECTED,
            inode,
            path: path.map(|path| PathBuf::from(OsString::from_vec(path.to_vec()))),
        })
    }
}

/// Takes the next word off `rest`.
fn word<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let start = rest.iter().position(|&byte| byte != b' ')?;
    let (_, begun) = rest.split_at_checked(start)?;
    let end = begun
        .iter()
        .position(|&byte| byte == b' ')
        .unwrap_or(begun.len());
    let (word, after) = begun.split_at_checked(end)?;
    *rest = after;
    Some(word)
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&byte| byte == b' ')
        .filter(|word| !word.is_empty())
}

/// An address as the kernel prints it: each 32 bits of it as a number of this machine, in hex,
/// then the port.
fn address(word: &[u8]) -> Option<SocketAddr> {
    let word = std::str::from_utf8(word).ok()?;
    let (host, port) = word.split_once(':')?;
    let part = |at: usize| {
        let digits = host.get(at..at + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let host = match host.len() {
        8 => IpAddr::V4(Ipv4Addr::from(part(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (index, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&part(index * 8)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(host, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn a_connection_is_read() {
        let line = b"   1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000  \
            1000        0 8123 1 00000000631341c5 20 4 30 10 -1";
        let socket = InternetSocket::parse(line, Family::Inet, SocketType::Stream).unwrap();
        assert_eq!(socket.local, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(socket.remote, "127.0.0.1:50000".parse().unwrap());
        assert!(socket.state.is_connected());
        assert_eq!(socket.state.name(), "ESTABLISHED");
        assert_eq!(socket.inode, 8123);
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn an_ipv6_listener_is_not_connected() {
        let line = b"   0: 00000000000000000000000001000000:0277 \
            00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0 \
            0 24601 1 0000000000000000 100 0 0 10 0";
        let socket = InternetSocket::parse(line, Family::Inet6, SocketType::Stream).unwrap();
        assert_eq!(socket.local, "[::1]:631".parse().unwrap());
        assert!(!socket.state.is_connected());
    }

    #[test]
    fn headings_are_no_sockets() {
        let heading =
            b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt";
        assert_eq!(
            InternetSocket::parse(heading, Family::Inet, SocketType::Stream),
            None
        );
        let heading = b"Num       RefCount Protocol Flags    Type St Inode Path";
        assert_eq!(UnixSocket::parse(heading), None);
    }

    #[test]
    fn unix_sockets_are_read_with_and_without_a_name() {
        let line = b"000000001633ab68: 00000003 00000000 00000000 0001 03  1073";
        let socket = UnixSocket::parse(line).unwrap();
        assert_eq!((socket.inode, socket.path), (1073, None));
        assert!(socket.connected && !socket.listens);
        let line = b"00000000a: 00000002 00000000 00010000 0005 01 21 /run/a b";
        let socket = UnixSocket::parse(line).unwrap();
        assert_eq!(socket.path.as_deref(), Some(Path::new("/run/a b")));
        assert!(socket.listens && !socket.connected);
        assert_eq!(socket.kind, SocketType::SequencedPacket);
    }
}
