//! Which Unix socket is connected to which.
//!
//! `/proc/net/unix` does not say; the kernel's socket diagnosis does: a netlink socket, one
//! request, and a dump of every Unix socket of the network namespace with its peer's inode
//! (sock_diag(7); linux/unix_diag.h, linux/netlink.h).

use std::{collections::HashMap, io, os::fd::OwnedFd, thread};

use rustix::{
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send,
        socket_with,
    },
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Request, root and match: a dump of all.
const NLM_F_REQUEST_DUMP: u16 = 0x1 | 0x300;
const UDIAG_SHOW_PEER: u32 = 4;
const UNIX_DIAG_PEER: u16 = 2;

/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `struct unix_diag_req`.
const REQUEST: usize = 24;
/// `struct unix_diag_msg`.
const ANSWER: usize = 16;

/// What the kernel sends of a dump at once: never more than 32 KiB.
const BUFFER: usize = 64 << 10;

/// The peers of the Unix sockets that `wanted` picks by inode, in our network namespace, or in
/// `namespace` if one is given.
pub(super) fn peers(
    namespace: Option<OwnedFd>,
    wanted: &(dyn Fn(u64) -> bool + Sync),
) -> io::Result<HashMap<u64, u64>> {
    let Some(namespace) = namespace else {
        return ask(wanted);
    };
    // A thread of its own: there is no way back from another namespace that could not fail.
    thread::scope(|scope| {
        let asked = scope.spawn(|| {
            move_into_link_name_space(
                std::os::fd::AsFd::as_fd(&namespace),
                Some(LinkNameSpaceType::Network),
            )?;
            ask(wanted)
        });
        asked
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that asked panicked")))
    })
}

fn ask(wanted: &dyn Fn(u64) -> bool) -> io::Result<HashMap<u64, u64>> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    send(&socket, &request(), SendFlags::empty())?;
    let mut peers = HashMap::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        let (received, _) = recv(&socket, &mut buffer, RecvFlags::empty())?;
        let datagram = buffer.get(..received).unwrap_or_default();
        if take(datagram, wanted, &mut peers)? {
            return Ok(peers);
        }
    }
}

fn request() -> Vec<u8> {
    let mut request = Vec::with_capacity(HEADER + REQUEST);
    let length = u32::try_from(HEADER + REQUEST).unwrap_or_default();
    request.extend(length.to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
    // Sequence and port: there is one request, and the port is the kernel's to choose.
    request.extend([0; 8]);
    request.extend([1, 0, 0, 0]); // AF_UNIX, no protocol
    request.extend(u32::MAX.to_ne_bytes()); // in every state
    request.extend(0_u32.to_ne_bytes()); // any inode
    request.extend(UDIAG_SHOW_PEER.to_ne_bytes());
    request.extend([0xff; 8]); // any cookie
    request
}

/// Takes the peers out of one datagram. Was it the last?
fn take(
    datagram: &[u8],
    wanted: &dyn Fn(u64) -> bool,
    peers: &mut HashMap<u64, u64>,
) -> io::Result<bool> {
    let mut rest = datagram;
    while !rest.is_empty() {
        let length = usize::try_from(number(rest, 0)?).unwrap_or(usize::MAX);
        let message = rest.get(..length).ok_or(io::ErrorKind::InvalidData)?;
        if length < HEADER {
            return Err(io::ErrorKind::InvalidData.into());
        }
        match short(message, 4)? {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let errno = number(message, HEADER)?.cast_signed().wrapping_neg();
                return Err(io::Error::from_raw_os_error(errno));
            }
            SOCK_DIAG_BY_FAMILY => {
                let inode = u64::from(number(message, HEADER + 4)?);
                if wanted(inode)
                    && let Some(peer) = peer(message.get(HEADER + ANSWER..).unwrap_or_default())?
                {
                    peers.insert(inode, peer);
                }
            }
            _ => {}
        }
        rest = rest.get(aligned(length)..).unwrap_or_default();
    }
    Ok(false)
}

/// The peer among the attributes of an answer.
fn peer(attributes: &[u8]) -> io::Result<Option<u64>> {
    let mut rest = attributes;
    while !rest.is_empty() {
        let length = usize::from(short(rest, 0)?);
        if length < 4 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if short(rest, 2)? == UNIX_DIAG_PEER {
            return Ok(Some(u64::from(number(rest, 4)?)));
        }
        rest = rest.get(aligned(length)..).unwrap_or_default();
    }
    Ok(None)
}

/// Messages and attributes begin at multiples of four.
fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn number(bytes: &[u8], at: usize) -> io::Result<u32> {
    let bytes = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
    Ok(u32::from_ne_bytes(bytes.ok_or(io::ErrorKind::InvalidData)?))
}

fn short(bytes: &[u8], at: usize) -> io::Result<u16> {
    let bytes = bytes.get(at..at + 2).and_then(|two| two.try_into().ok());
    Ok(u16::from_ne_bytes(bytes.ok_or(io::ErrorKind::InvalidData)?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::MetadataExt, net::UnixStream};

    use super::*;

    fn inode(socket: &UnixStream) -> u64 {
        let fd = std::os::fd::AsRawFd::as_raw_fd(socket);
        std::fs::metadata(format!("/proc/self/fd/{fd}"))
            .unwrap()
            .ino()
    }

    #[test]
    fn two_ends_of_a_pair_are_each_others_peers() {
        let (one, other) = UnixStream::pair().unwrap();
        let (one, other) = (inode(&one), inode(&other));
        let peers = peers(None, &|inode| inode == one || inode == other).unwrap();
        assert_eq!(peers, HashMap::from([(one, other), (other, one)]));
    }

    #[test]
    fn what_is_no_netlink_is_refused() {
        let mut peers = HashMap::new();
        for datagram in [
            &[0_u8; 16][..],
            &[255; 16],
            &[17, 0, 0],
            &[8, 0, 0, 0, 20, 0, 0, 0],
        ] {
            assert!(
                take(datagram, &|_| true, &mut peers).is_err(),
                "{datagram:?}"
            );
        }
        assert!(peers.is_empty());
    }

    #[test]
    fn an_error_of_the_kernel_is_told() {
        let mut datagram = Vec::new();
        datagram.extend(36_u32.to_ne_bytes());
        datagram.extend(NLMSG_ERROR.to_ne_bytes());
        datagram.extend([0; 10]);
        datagram.extend((-13_i32).to_ne_bytes());
        datagram.extend([0; 16]);
        let error = take(&datagram, &|_| true, &mut HashMap::new()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(13));
    }
}
