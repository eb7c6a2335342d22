//! What the thread of a connection is given, and what it gives back.

use std::{os::fd::OwnedFd, sync::Arc};

use rustix::process::Pid;
use tokio::{sync::oneshot, time::Instant};

use super::{peer::SwrkEnd, sockets::PageSocket};
use crate::{
    notify::{Hook, HookError},
    pages::LazyTree,
    request::Request,
    rpc::CriuResp,
    transport::TransportError,
    undo::{Leftover, Undo},
    unknown::{MalformedMessage, UnknownFields},
};

/// A call to make.
#[derive(Debug)]
pub(crate) struct Job {
    /// What it is.
    pub request: Request,
    /// `criu_req`, encoded.
    pub message: Vec<u8>,
    /// Descriptors that CRIU opens through `/proc` by the numbers that they have here.
    pub keep: Vec<Arc<OwnedFd>>,
    /// The socket that its pages go over, which is shut where the call is cancelled.
    pub pages: Option<PageSocket>,
    /// Whether CRIU goes on after it: `keep_open`, or a pre-dump.
    pub keeps_open: bool,
    /// Whether CRIU becomes another program after it (`exec_cmd`).
    pub becomes_command: bool,
    /// When it has to be over.
    pub deadline: Option<Instant>,
    /// What there was before it.
    pub undo: Undo,
    /// Where the processes of a restore go, while all of them are there and none runs.
    pub restored: Option<oneshot::Sender<LazyTree>>,
}

/// Why a call was to end before its time.
#[derive(Debug)]
pub(crate) enum CancelledBy {
    /// The caller said so.
    Caller,
    /// The caller's future was dropped.
    Drop,
    /// Its deadline passed.
    Deadline,
    /// A hook failed.
    Hook(Hook, HookError),
    /// CRIU sent something that it should not.
    Protocol(ProtocolError),
}

/// What CRIU should not have sent.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// No message of its protocol.
    #[error("CRIU sent a message that cannot be read")]
    Malformed(#[source] MalformedMessage),
    /// The reply to another request.
    #[error("CRIU replied as to {got}, and not to what it was asked")]
    WrongType {
        /// What the reply says that it is to.
        got: String,
    },
    /// Nothing: CRIU did not take the message for a request.
    #[error("CRIU did not know the request for one (it replied EMPTY)")]
    Empty,
    /// Descriptors that nobody asked for.
    #[error("CRIU sent {count} descriptors that were not asked for")]
    Descriptors {
        /// How many.
        count: usize,
    },
    /// A second reply.
    #[error("CRIU replied twice")]
    TwoReplies,
    /// The socket broke.
    #[error(transparent)]
    Transport(#[from] TransportError),
}

/// How the exchange ended.
#[derive(Debug)]
pub(crate) enum End {
    /// CRIU replied.
    Reply(Box<CriuResp>, UnknownFields),
    /// CRIU ended, or closed its socket.
    Silence,
    /// CRIU was killed, or the connection given up.
    GivenUp,
}

/// A call that is over.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// How the exchange ended.
    pub end: End,
    /// Why it was cancelled, if it was.
    pub cancelled: Option<CancelledBy>,
    /// Failures of hooks that CRIU does not give up for.
    pub ignored: Vec<(Hook, HookError)>,
    /// What became of the process and what it said, where the connection has ended.
    pub swrk: SwrkEnd,
    /// What could not be undone.
    pub left: Vec<Leftover>,
    /// The command that CRIU has become.
    pub command: Option<u32>,
    /// The root process of a restore, as a hook told it.
    pub root: Option<Pid>,
}
