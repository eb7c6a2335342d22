//! CRIU's transport: an `AF_UNIX` socket of type `SEQPACKET`, one message in one packet.
//!
//! No length goes before a message, and CRIU sets no limit to one: it looks how large the next
//! packet is and makes room. So do we, up to [`MAX_REPLY`]. What can be sent is limited by the
//! sender's own buffer (`SO_SNDBUF`, 212,992 bytes by default, of which 32 are the kernel's).
//!
//! Knows no messages. Seen of CRIU 4.1.1 and 4.2.1, `criu/cr-service.c`.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    io::Errno,
    net::{
        self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
        SendAncillaryBuffer, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt,
    },
};
use thiserror::Error;
use tokio::io::{Interest, unix::AsyncFd};

use stasis_linux::sys;

/// A reply is some hundred bytes, and its longest field is one line of a log.
pub const MAX_REPLY: usize = 1 << 20;
/// CRIU sends one descriptor at most, with `orphan-pts-master`.
const MAX_DESCRIPTORS: usize = 8;
/// What a packet takes of the sender's buffer besides its bytes, and some room.
const OVERHEAD: usize = 4096;

/// Why a message did not get to CRIU or from it.
#[derive(Debug, Error)]
pub enum TransportError {
    /// The kernel refused.
    #[error("cannot {step} CRIU's socket")]
    Socket {
        /// What was tried.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The request is larger than the socket may carry.
    #[error(
        "the request has {size} bytes, more than this machine lets a packet have; raise net.core.wmem_max, or ask for less in one request"
    )]
    RequestTooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// CRIU sent more than any reply has.
    #[error("CRIU sent a message of {size} bytes; no reply has more than {MAX_REPLY}")]
    ReplyTooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// CRIU sent more descriptors than any message carries.
    #[error("CRIU sent more than {MAX_DESCRIPTORS} descriptors with one message")]
    TooManyDescriptors,
}

/// What came in one packet.
#[derive(Debug)]
pub struct Packet {
    /// The message.
    pub bytes: Vec<u8>,
    /// Descriptors that came with it. They close on exec.
    pub descriptors: Vec<OwnedFd>,
}

/// One end of a connection to CRIU.
#[derive(Debug)]
pub struct MessageSocket(AsyncFd<OwnedFd>);

impl MessageSocket {
    /// Two ends of a connection, ours and the one that is for a child. Both close on exec.
    pub fn pair() -> Result<(Self, OwnedFd), TransportError> {
        let (ours, theirs) = net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(failed("make"))?;
        Ok((Self::over(ours)?, theirs))
    }

    /// A connection to the service that listens at `path`.
    pub fn to(path: &Path) -> Result<Self, TransportError> {
        let socket = net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(failed("make"))?;
        let address = SocketAddrUnix::new(path).map_err(failed("name"))?;
        net::connect(&socket, &address).map_err(failed("connect to"))?;
        Self::over(socket)
    }

    /// A connection over `socket`, in the runtime of the caller.
    pub fn over(socket: OwnedFd) -> Result<Self, TransportError> {
        rustix::io::ioctl_fionbio(&socket, true).map_err(failed("set up"))?;
        sys::watch(socket, Interest::READABLE | Interest::WRITABLE)
            .map(Self)
            .map_err(failed("watch"))
    }

    /// Sends `bytes` as one packet, with `descriptors`. Makes room for it first, if it has to.
    pub async fn send(&self, bytes: &[u8], descriptors: &[OwnedFd]) -> Result<(), TransportError> {
        let sent = match self.send_once(bytes, descriptors).await {
            Err(error) if error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error()) => {
                self.make_room(bytes.len())?;
                self.send_once(bytes, descriptors).await
            }
            sent => sent,
        };
        match sent {
            Ok(()) => Ok(()),
            Err(error) if error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error()) => {
                Err(TransportError::RequestTooLarge { size: bytes.len() })
            }
            Err(error) => Err(failed("write to")(error)),
        }
    }

    async fn send_once(&self, bytes: &[u8], descriptors: &[OwnedFd]) -> io::Result<()> {
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        self.0
            .async_io(Interest::WRITABLE, |socket| {
                let mut space =
                    vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                if !borrowed.is_empty()
                    && !control.push(net::SendAncillaryMessage::ScmRights(&borrowed))
                {
                    return Err(io::Error::from(io::ErrorKind::InvalidInput));
                }
                // A child that has ended is an error to tell, not a signal to die of.
                net::sendmsg(
                    socket,
                    &[IoSlice::new(bytes)],
                    &mut control,
                    SendFlags::NOSIGNAL,
                )?;
                Ok(())
            })
            .await
    }

    fn make_room(&self, size: usize) -> Result<(), TransportError> {
        let socket = self.0.get_ref();
        let room = size.saturating_add(OVERHEAD);
        // Beyond net.core.wmem_max only with CAP_NET_ADMIN; the plain call takes what it can get.
        sockopt::set_socket_send_buffer_size_force(socket, room)
            .or_else(|_| sockopt::set_socket_send_buffer_size(socket, room))
            .map_err(failed("enlarge the buffer of"))
    }

    /// The next packet. `None` if CRIU has closed its end, or has ended.
    pub async fn receive(&self) -> Result<Option<Packet>, TransportError> {
        let size = self
            .0
            .async_io(Interest::READABLE, |socket| {
                let flags = RecvFlags::PEEK | RecvFlags::TRUNC;
                Ok(net::recv(socket, &mut [0_u8; 0][..], flags)?.1)
            })
            .await;
        let size = match size {
            Ok(size) => size,
            // It died with a request of ours unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(failed("read from")(error)),
        };
        if size == 0 {
            return Ok(None);
        }
        if size > MAX_REPLY {
            return Err(TransportError::ReplyTooLarge { size });
        }
        self.take(size).map(Some)
    }

    /// Takes the packet of `size` bytes that waits.
    fn take(&self, size: usize) -> Result<Packet, TransportError> {
        let mut bytes = vec![0; size];
        let mut space =
            vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = net::recvmsg(
            self.0.get_ref(),
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
        .map_err(failed("read from"))?;
        bytes.truncate(received.bytes);
        let descriptors = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            })
            .flatten()
            .collect();
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(TransportError::TooManyDescriptors);
        }
        Ok(Packet { bytes, descriptors })
    }

    /// Whether a packet waits to be read.
    pub fn has_packet(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::TRUNC;
        net::recv(self.0.get_ref(), &mut [0_u8; 0][..], flags).is_ok_and(|(_, size)| size > 0)
    }
}

fn failed<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> TransportError {
    move |error| TransportError::Socket {
        step,
        source: error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (MessageSocket, MessageSocket) {
        let (ours, theirs) = MessageSocket::pair().unwrap();
        (ours, MessageSocket::over(theirs).unwrap())
    }

    #[tokio::test]
    #[ignore = "needs root, for the size of the buffer: make test"]
    async fn a_packet_of_any_size_up_to_the_limit_arrives_whole() {
        let (ours, theirs) = pair();
        for size in [1, 8192, 212_000, MAX_REPLY] {
            let message: Vec<u8> = (0..size).map(|i| u8::try_from(i % 251).unwrap()).collect();
            ours.send(&message, &[]).await.unwrap();
            let packet = theirs.receive().await.unwrap().unwrap();
            assert!(packet.bytes == message, "{size} bytes");
            assert!(packet.descriptors.is_empty());
        }
    }

    #[tokio::test]
    #[ignore = "needs root, for the size of the buffer: make test"]
    async fn a_packet_larger_than_any_reply_is_refused_by_its_size() {
        let (ours, theirs) = pair();
        ours.send(&vec![0; MAX_REPLY + 1], &[]).await.unwrap();
        let error = theirs.receive().await.unwrap_err();
        assert!(
            matches!(error, TransportError::ReplyTooLarge { size } if size == MAX_REPLY + 1),
            "{error}"
        );
    }

    #[tokio::test]
    async fn descriptors_go_along_and_close_on_exec() {
        let (ours, theirs) = pair();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        ours.send(b"x", &[writer]).await.unwrap();
        let packet = theirs.receive().await.unwrap().unwrap();
        let [writer] = <[OwnedFd; 1]>::try_from(packet.descriptors).unwrap();
        let flags = rustix::io::fcntl_getfd(&writer).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        rustix::io::write(&writer, b"y").unwrap();
        let mut read = [0; 1];
        assert_eq!(rustix::io::read(&reader, &mut read), Ok(1));
    }

    #[tokio::test]
    async fn an_end_that_closes_is_the_end_of_packets() {
        let (ours, theirs) = pair();
        theirs.send(b"last", &[]).await.unwrap();
        drop(theirs);
        assert!(ours.has_packet());
        assert_eq!(ours.receive().await.unwrap().unwrap().bytes, b"last");
        assert!(!ours.has_packet());
        assert!(ours.receive().await.unwrap().is_none());
        let error = ours.send(b"late", &[]).await.unwrap_err();
        assert!(matches!(error, TransportError::Socket { .. }), "{error}");
    }
}
