//! What CRIU answers, typed.

#![expect(
    clippy::needless_pass_by_value,
    reason = "one signature for what takes all of an answer and what takes a number of it"
)]

use rustix::process::Pid;

use crate::{
    notify::{Hook, HookError},
    rpc::CriuResp,
    stats::{DumpStats, RestoreStats},
    swrk::pid,
    unknown::UnknownFields,
    version::Version,
};

/// What a successful reply came with.
#[derive(Debug)]
pub(crate) struct Answer {
    pub reply: CriuResp,
    pub unknown: UnknownFields,
    pub ignored: Vec<IgnoredHook>,
    pub command: Option<u32>,
    pub dump_stats: Option<DumpStats>,
    pub restore_stats: Option<RestoreStats>,
}

/// A hook that failed without CRIU giving up for it.
#[derive(Debug)]
pub struct IgnoredHook {
    /// The hook.
    pub hook: Hook,
    /// What it said.
    pub error: HookError,
}

/// A dump that succeeded.
#[derive(Debug)]
pub struct Dumped {
    /// In the process that dumped itself: it has been restored.
    pub restored: bool,
    /// What CRIU counted, if it left its statistics.
    pub stats: Option<DumpStats>,
    /// Hooks that failed without CRIU giving up for it.
    pub ignored: Vec<IgnoredHook>,
    /// What the reply of a newer CRIU, or of a fork, said besides.
    pub unknown: UnknownFields,
}

/// A pre-dump that succeeded.
#[derive(Debug)]
pub struct PreDumped {
    /// What CRIU counted, if it left its statistics.
    pub stats: Option<DumpStats>,
}

/// A tree that was restored and runs.
#[derive(Debug)]
pub struct Restored {
    /// Its root process.
    pub pid: Pid,
    /// The process that was to be executed after the restore, which CRIU has become.
    pub command: Option<u32>,
    /// What CRIU counted, if it left its statistics.
    pub stats: Option<RestoreStats>,
    /// Hooks that failed without CRIU giving up for it.
    pub ignored: Vec<IgnoredHook>,
    /// What the reply of a newer CRIU, or of a fork, said besides.
    pub unknown: UnknownFields,
}

/// A page server that outlives its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageServerStarted {
    /// Its process, where CRIU tells it: 4.1 and 4.2 do not.
    pub pid: Option<Pid>,
    /// The port on which it listens; 0 where it was given a socket.
    pub port: u16,
}

/// What the kernel offers to CRIU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features {
    /// It tracks which memory changes (soft-dirty), which pre-dumps need.
    pub mem_track: bool,
    /// It hands page faults to a process (userfaultfd), which lazy pages need.
    pub lazy_pages: bool,
    /// It has `pidfd_open` and `pidfd_getfd`, with which the next dump notices processes that have
    /// taken the id of another (since CRIU 3.16).
    pub pidfd_store: bool,
}

/// Makes the result of a successful reply. The error names what a reply lacks.
pub(crate) type Finish<T> = fn(Answer) -> Result<T, &'static str>;

pub(crate) fn nothing(_: Answer) -> Result<(), &'static str> {
    Ok(())
}

pub(crate) fn dumped(answer: Answer) -> Result<Dumped, &'static str> {
    Ok(Dumped {
        restored: answer.reply.dump.is_some_and(|dump| dump.restored()),
        stats: answer.dump_stats,
        ignored: answer.ignored,
        unknown: answer.unknown,
    })
}

pub(crate) fn pre_dumped(answer: Answer) -> Result<PreDumped, &'static str> {
    Ok(PreDumped {
        stats: answer.dump_stats,
    })
}

pub(crate) fn restored(answer: Answer) -> Result<Restored, &'static str> {
    let root = answer.reply.restore.and_then(|restore| pid(restore.pid));
    Ok(Restored {
        pid: root.ok_or("restore.pid")?,
        command: answer.command,
        stats: answer.restore_stats,
        ignored: answer.ignored,
        unknown: answer.unknown,
    })
}

pub(crate) fn page_server(answer: Answer) -> Result<PageServerStarted, &'static str> {
    let server = answer.reply.ps.ok_or("ps")?;
    Ok(PageServerStarted {
        pid: server.pid.and_then(pid),
        port: u16::try_from(server.port.unwrap_or_default()).map_err(|_| "ps.port")?,
    })
}

pub(crate) fn version(answer: Answer) -> Result<Version, &'static str> {
    let version = answer.reply.version.ok_or("version")?;
    Version::from_rpc(version).ok_or("version without negative numbers")
}

/// The raw wait status.
pub(crate) fn status(answer: Answer) -> Result<i32, &'static str> {
    answer.reply.status.ok_or("status")
}

pub(crate) fn features(answer: Answer) -> Result<Features, &'static str> {
    let features = answer.reply.features.ok_or("features")?;
    Ok(Features {
        mem_track: features.mem_track(),
        lazy_pages: features.lazy_pages(),
        pidfd_store: features.pidfd_store(),
    })
}
