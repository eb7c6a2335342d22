//! A connection, with an eye on the frames that pass.
//!
//! It stands between the socket and ttrpc for two things that ttrpc 0.10 does not offer: requests
//! for unknown services are re-addressed ([`super::unknown_service`]), and the server learns when
//! the reply of a Shutdown call has left, which is when it may end. Everything else passes
//! unchanged.
//!
//! ```text
//! frame: length u32 | stream id u32 | type u8 | flags u8 | length bytes    (big endian)
//! ```
//!
//! The numbers are those of ttrpc's `PROTOCOL.md`. A request is held back until it is complete;
//! ttrpc would wait for the same bytes.

use std::{
    collections::HashSet,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use containerd_shim::protos::{
    protobuf::Message,
    ttrpc::proto::{
        MESSAGE_HEADER_LENGTH, MESSAGE_LENGTH_MAX, MESSAGE_TYPE_REQUEST, MESSAGE_TYPE_RESPONSE,
        MessageHeader, Request,
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync,
};

use super::unknown_service;

/// How much is read at once, and the most memory that a connection keeps between requests.
const CHUNK: usize = 16 << 10;

/// The method whose reply is watched.
const SHUTDOWN: &str = "Shutdown";

/// What all connections of a server share.
#[derive(Debug)]
pub struct FrameWatch {
    known: Vec<&'static str>,
    /// How many Shutdown calls have come in whose replies have not left.
    shutdowns: sync::watch::Sender<usize>,
}

impl FrameWatch {
    /// For a server that has `known` services registered.
    #[must_use]
    pub fn new(known: Vec<&'static str>) -> Arc<Self> {
        Arc::new(Self {
            known,
            shutdowns: sync::watch::Sender::new(0),
        })
    }

    /// Waits until no reply to a Shutdown call is on its way.
    pub async fn shutdown_replies(&self) {
        // It fails only without a sender, which `self` holds.
        let _ = self
            .shutdowns
            .subscribe()
            .wait_for(|calls| *calls == 0)
            .await;
    }
}

/// A connection to one client.
#[derive(Debug)]
pub struct FrameStream<S> {
    stream: S,
    watch: Arc<FrameWatch>,
    input: Input,
    output: Output,
    /// The stream ids of the Shutdown calls that have come in and not been answered.
    shutdowns: HashSet<u32>,
}

/// Frames from the client.
#[derive(Debug)]
struct Input {
    /// A frame that comes in, or one that goes on to ttrpc.
    frame: Vec<u8>,
    state: Reading,
}

#[derive(Debug, Clone, Copy)]
enum Reading {
    /// Until the frame has this many bytes.
    Fill(usize),
    /// The frame goes on to ttrpc, from this byte.
    Deliver(usize),
    /// This many bytes go from the socket to ttrpc as they are.
    Pass(usize),
}

/// Frames to the client.
#[derive(Debug, Default)]
struct Output {
    /// The header of the frame that goes out, as far as it has gone.
    header: Vec<u8>,
    /// How much of its body has not gone.
    rest: usize,
}

impl<S> FrameStream<S> {
    /// Puts `stream` under the eye of the server that `watch` belongs to.
    pub fn new(stream: S, watch: Arc<FrameWatch>) -> Self {
        let input = Input {
            frame: Vec::new(),
            state: Reading::Fill(MESSAGE_HEADER_LENGTH),
        };
        Self {
            stream,
            watch,
            input,
            output: Output::default(),
            shutdowns: HashSet::new(),
        }
    }

    /// Looks at a frame whose header, or which as a whole, has come in.
    fn arrived(&mut self) {
        let header = MessageHeader::from(&self.input.frame[..MESSAGE_HEADER_LENGTH]);
        // A u32 fits: Linux has no smaller usize.
        let length = header.length as usize;
        if self.input.frame.len() == MESSAGE_HEADER_LENGTH + length {
            if header.type_ == MESSAGE_TYPE_REQUEST {
                self.request(header);
            }
            self.input.state = Reading::Deliver(0);
        } else if header.type_ == MESSAGE_TYPE_REQUEST && length <= MESSAGE_LENGTH_MAX {
            self.input.state = Reading::Fill(MESSAGE_HEADER_LENGTH + length);
        } else {
            // Data of a stream, or a frame that ttrpc will refuse for its length.
            self.input.state = Reading::Deliver(0);
        }
    }

    fn request(&mut self, header: MessageHeader) {
        let body = &self.input.frame[MESSAGE_HEADER_LENGTH..];
        // What is no request is for ttrpc to refuse.
        let Ok(request) = Request::parse_from_bytes(body) else {
            return;
        };
        if let Some(body) = unknown_service::readdress(&request, &self.watch.known) {
            if let Ok(length) = u32::try_from(body.len()) {
                self.input.frame.truncate(MESSAGE_HEADER_LENGTH);
                self.input.frame[..4].copy_from_slice(&length.to_be_bytes());
                self.input.frame.extend_from_slice(&body);
            }
        } else if request.method == SHUTDOWN && self.shutdowns.insert(header.stream_id) {
            self.watch.shutdowns.send_modify(|calls| *calls += 1);
        }
    }

    /// Notes that `bytes` have gone to the client.
    fn sent(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.output.header.len() < MESSAGE_HEADER_LENGTH {
                let missing = MESSAGE_HEADER_LENGTH - self.output.header.len();
                let (part, after) = bytes.split_at(missing.min(bytes.len()));
                self.output.header.extend_from_slice(part);
                bytes = after;
                if self.output.header.len() < MESSAGE_HEADER_LENGTH {
                    return;
                }
                self.output.rest = MessageHeader::from(&self.output.header).length as usize;
            }
            let part = self.output.rest.min(bytes.len());
            self.output.rest -= part;
            bytes = &bytes[part..];
            if self.output.rest == 0 {
                let header = MessageHeader::from(&self.output.header);
                self.output.header.clear();
                self.answered(header);
            }
        }
    }

    fn answered(&mut self, header: MessageHeader) {
        if header.type_ == MESSAGE_TYPE_RESPONSE && self.shutdowns.remove(&header.stream_id) {
            self.watch.shutdowns.send_modify(|calls| *calls -= 1);
        }
    }
}

impl<S> Drop for FrameStream<S> {
    fn drop(&mut self) {
        // No reply will leave through a connection that is gone.
        self.watch
            .shutdowns
            .send_modify(|calls| *calls -= self.shutdowns.len());
    }
}

impl<S: AsyncRead + Unpin> FrameStream<S> {
    /// Reads at most `limit` bytes behind what there is of the frame. Memory is taken as bytes
    /// arrive, not as a header promises them.
    fn poll_fill(&mut self, limit: usize, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut chunk = [0; CHUNK];
        let mut part = ReadBuf::new(&mut chunk[..limit.min(CHUNK)]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut part))?;
        self.input.frame.extend_from_slice(part.filled());
        Poll::Ready(Ok(part.filled().len()))
    }

    /// Hands out what is left of the frame, from byte `from`.
    fn deliver(&mut self, from: usize, buffer: &mut ReadBuf<'_>) {
        let header = MessageHeader::from(&self.input.frame[..MESSAGE_HEADER_LENGTH]);
        let end = from + buffer.remaining().min(self.input.frame.len() - from);
        buffer.put_slice(&self.input.frame[from..end]);
        if end < self.input.frame.len() {
            self.input.state = Reading::Deliver(end);
            return;
        }
        let rest = MESSAGE_HEADER_LENGTH + header.length as usize - end;
        self.input.frame.clear();
        self.input.frame.shrink_to(CHUNK);
        self.input.state = match rest {
            0 => Reading::Fill(MESSAGE_HEADER_LENGTH),
            rest => Reading::Pass(rest),
        };
    }

    fn poll_pass(
        &mut self,
        rest: usize,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut chunk = [0; CHUNK];
        let limit = rest.min(buffer.remaining()).min(CHUNK);
        let mut part = ReadBuf::new(&mut chunk[..limit]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut part))?;
        buffer.put_slice(part.filled());
        self.input.state = match rest - part.filled().len() {
            0 => Reading::Fill(MESSAGE_HEADER_LENGTH),
            rest => Reading::Pass(rest),
        };
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FrameStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match this.input.state {
                Reading::Fill(until) => {
                    let missing = until - this.input.frame.len();
                    if ready!(this.poll_fill(missing, cx))? == 0 {
                        // The end, and of half a frame nobody needs to know.
                        return Poll::Ready(Ok(()));
                    }
                    if this.input.frame.len() == until {
                        this.arrived();
                    }
                }
                Reading::Deliver(from) => {
                    this.deliver(from, buffer);
                    return Poll::Ready(Ok(()));
                }
                Reading::Pass(rest) => return this.poll_pass(rest, cx, buffer),
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FrameStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let sent = ready!(Pin::new(&mut this.stream).poll_write(cx, bytes))?;
        this.sent(&bytes[..sent]);
        Poll::Ready(Ok(sent))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
