//! What can be asked of CRIU.

use std::fmt;

use crate::rpc::CriuReqType;

/// A request of CRIU's RPC. `NOTIFY` is none: it is the answer to a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i32)]
pub enum Request {
    /// Which CRIU is this?
    Version = CriuReqType::Version as i32,
    /// Which of the features asked for does this kernel have?
    Features = CriuReqType::FeatureCheck as i32,
    /// Can CRIU work on this machine at all?
    Check = CriuReqType::Check as i32,
    /// Dump a tree of processes.
    Dump = CriuReqType::Dump as i32,
    /// Dump memory ahead of a dump, over a connection that stays for the next one.
    PreDump = CriuReqType::PreDump as i32,
    /// Dump memory ahead of a dump, once.
    SinglePreDump = CriuReqType::SinglePreDump as i32,
    /// Bring a dumped tree back.
    Restore = CriuReqType::Restore as i32,
    /// Start a page server that outlives the connection.
    PageServer = CriuReqType::PageServer as i32,
    /// Start a page server that is a child of the `criu` at the other end.
    PageServerChild = CriuReqType::PageServerChld as i32,
    /// Wait for a page server that is a child of the `criu` at the other end.
    WaitPid = CriuReqType::WaitPid as i32,
    /// Write down what this machine's processors can do.
    CpuinfoDump = CriuReqType::CpuinfoDump as i32,
    /// Compare this machine's processors with what was written down.
    CpuinfoCheck = CriuReqType::CpuinfoCheck as i32,
}

impl Request {
    /// Every request, in the order of CRIU's numbers.
    pub const ALL: [Self; 12] = [
        Self::Dump,
        Self::Restore,
        Self::Check,
        Self::PreDump,
        Self::PageServer,
        Self::CpuinfoDump,
        Self::CpuinfoCheck,
        Self::Features,
        Self::Version,
        Self::WaitPid,
        Self::PageServerChild,
        Self::SinglePreDump,
    ];

    /// The number of the type that the request carries.
    #[must_use]
    pub fn wire(self) -> i32 {
        self as i32
    }

    /// The number of the type that its reply carries: its own, but for a page server's, which is the
    /// same for both kinds.
    pub(crate) fn reply(self) -> i32 {
        match self {
            Self::PageServerChild => Self::PageServer.wire(),
            other => other.wire(),
        }
    }

    /// Whether it merely asks what CRIU is and can do, so that there is nothing to bring to an
    /// orderly end.
    pub(crate) fn is_question(self) -> bool {
        matches!(self, Self::Version | Self::Features)
    }

    /// Whether processes are frozen in its course.
    pub(crate) fn freezes(self) -> bool {
        matches!(self, Self::Dump | Self::PreDump | Self::SinglePreDump)
    }

    /// Whether CRIU keeps the connection open after it if it is asked to. It drops any other
    /// request that asks for that without a reply.
    pub(crate) fn may_keep_open(self) -> bool {
        matches!(
            self,
            Self::Version
                | Self::Features
                | Self::PageServer
                | Self::PageServerChild
                | Self::CpuinfoDump
                | Self::CpuinfoCheck
        )
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => "version",
            Self::Features => "feature check",
            Self::Check => "check",
            Self::Dump => "dump",
            Self::PreDump => "pre-dump",
            Self::SinglePreDump => "single pre-dump",
            Self::Restore => "restore",
            Self::PageServer => "page server",
            Self::PageServerChild => "page server (child)",
            Self::WaitPid => "wait for a page server",
            Self::CpuinfoDump => "cpuinfo dump",
            Self::CpuinfoCheck => "cpuinfo check",
        })
    }
}
