//! What can be asked of CRIU.

use std::fmt;

use crate::rpc::CriuReqType;

/// A request of CRIU's RPC. `NOTIFY` is none: it is the answer to a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Request {
    /// Which CRIU is this?
    Version,
    /// Which of the features asked for does this kernel have?
    Features,
    /// Can CRIU work on this machine at all?
    Check,
    /// Dump a tree of processes.
    Dump,
    /// Dump memory ahead of a dump, over a connection that stays for the next one.
    PreDump,
    /// Dump memory ahead of a dump, once.
    SinglePreDump,
    /// Bring a dumped tree back.
    Restore,
    /// Start a page server that outlives the connection.
    PageServer,
    /// Start a page server that is a child of the `criu` at the other end.
    PageServerChild,
    /// Wait for a page server that is a child of the `criu` at the other end.
    WaitPid,
    /// Write down what this machine's processors can do.
    CpuinfoDump,
    /// Compare this machine's processors with what was written down.
    CpuinfoCheck,
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

    /// The type that the request carries.
    #[must_use]
    pub fn wire(self) -> CriuReqType {
        match self {
            Self::Version => CriuReqType::Version,
            Self::Features => CriuReqType::FeatureCheck,
            Self::Check => CriuReqType::Check,
            Self::Dump => CriuReqType::Dump,
            Self::PreDump => CriuReqType::PreDump,
            Self::SinglePreDump => CriuReqType::SinglePreDump,
            Self::Restore => CriuReqType::Restore,
            Self::PageServer => CriuReqType::PageServer,
            Self::PageServerChild => CriuReqType::PageServerChld,
            Self::WaitPid => CriuReqType::WaitPid,
            Self::CpuinfoDump => CriuReqType::CpuinfoDump,
            Self::CpuinfoCheck => CriuReqType::CpuinfoCheck,
        }
    }

    /// The type that its reply carries: its own, but for a page server's, which is the same for
    /// both kinds.
    pub(crate) fn reply(self) -> CriuReqType {
        match self {
            Self::PageServerChild => CriuReqType::PageServer,
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
        match self {
            Self::Dump | Self::PreDump | Self::SinglePreDump => true,
            Self::Restore
            | Self::Version
            | Self::Features
            | Self::Check
            | Self::PageServer
            | Self::PageServerChild
            | Self::WaitPid
            | Self::CpuinfoDump
            | Self::CpuinfoCheck => false,
        }
    }

    /// Whether CRIU keeps the connection open after it if it is asked to. It drops any other
    /// request that asks for that without a reply.
    pub(crate) fn may_keep_open(self) -> bool {
        match self {
            Self::Version
            | Self::Features
            | Self::PageServer
            | Self::PageServerChild
            | Self::CpuinfoDump
            | Self::CpuinfoCheck => true,
            Self::Check
            | Self::Dump
            | Self::PreDump
            | Self::SinglePreDump
            | Self::Restore
            | Self::WaitPid => false,
        }
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
