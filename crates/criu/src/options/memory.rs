//! Memory: what is dumped again, what is dropped, what comes later.

use super::{
    Options,
    table::{By, DUMPS, DUMPS_AND_SERVERS, Given, Key, RESTORE, Release, Row, flag},
};
use crate::{request::Request, rpc::CriuPreDumpMode, setters::setters};

const LAZY_FOR: &[Request] = &[
    Request::Dump,
    Request::Restore,
    Request::PageServer,
    Request::PageServerChild,
];

pub(super) const ROWS: &[Row] = &[
    flag!(
        15,
        track_mem,
        Key::Named("track-mem"),
        Release::new(1, 2, 0),
        DUMPS,
        memory.track
    ),
    // One field of two meanings: a dump takes from the parent what it has itself, a restore takes
    // from the image what it has restored.
    flag!(
        16,
        auto_dedup,
        Key::Exclusive {
            key: "auto-dedup",
            harm: "it spends the image; ask for that too, or set this in the dump's request",
        },
        Release::new(1, 2, 0),
        DUMPS_AND_SERVERS,
        memory.dedup_on_dump
    ),
    flag!(
        16,
        auto_dedup,
        Key::Exclusive {
            key: "auto-dedup",
            harm: "it takes pages out of the parent image; ask for that too, or set this in the \
                   restore's request",
        },
        Release::new(1, 2, 0),
        RESTORE,
        memory.spend_on_restore
    ),
    flag!(
        48,
        lazy_pages,
        Key::Named("lazy-pages"),
        Release::new(3, 5, 0),
        LAZY_FOR,
        memory.lazy_pages
    ),
    Row {
        number: 61,
        name: "pre_dump_mode",
        since: Release::new(3, 14, 0),
        requests: DUMPS,
        key: Key::Named("pre-dump-mode"),
        by: By::Setter {
            given: |o| Given::one(o.memory.pre_dump_mode.map(PreDumpMode::as_str)),
            put: |o, rpc| rpc.pre_dump_mode = o.memory.pre_dump_mode.map(|mode| mode as i32),
        },
    },
];

/// Set by the setters below.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Memory {
    pub(super) track: bool,
    pub(super) dedup_on_dump: bool,
    pub(super) spend_on_restore: bool,
    pub(super) lazy_pages: bool,
    pub(super) pre_dump_mode: Option<PreDumpMode>,
}

/// Memory.
///
/// ```
/// use stasis_criu::{Options, options::PreDumpMode};
///
/// let options = Options::new("/var/lib/images/2")
///     .parent_img("../1")
///     .track_mem(true)
///     .dedup_on_dump(true)
///     .pre_dump_mode(PreDumpMode::Read);
/// ```
impl Options {
    setters! {
        /// Keeps track of what is written to from now on, `track_mem`, so that the next dump needs
        /// only that. A pre-dump always does.
        pub fn track_mem(mut self, set: bool) { self.memory.track = set; }

        /// Takes out of the parent image what this dump has itself, `auto_dedup`. The parent is
        /// then of use only together with this image, and so of none if this dump fails half way.
        pub fn dedup_on_dump(mut self, set: bool) { self.memory.dedup_on_dump = set; }

        /// Takes out of the image, and out of its parents, what has been restored, `auto_dedup`.
        /// This spends the image: it saves the space while the restore runs, and there is no second
        /// restore.
        pub fn spend_image_on_restore(mut self, set: bool) { self.memory.spend_on_restore = set; }

        /// Has memory follow when it is needed, `lazy_pages`: a dump keeps it and serves it, a
        /// restore asks the daemon `criu lazy-pages` for it.
        pub fn lazy_pages(mut self, set: bool) { self.memory.lazy_pages = set; }

        /// How a pre-dump reads memory, `pre_dump_mode`.
        pub fn pre_dump_mode(mut self, mode: PreDumpMode) {
            self.memory.pre_dump_mode = Some(mode);
        }
    }
}

/// How a pre-dump reads memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum PreDumpMode {
    /// Out of pipes that are filled while the processes are frozen: CRIU's default.
    Splice = CriuPreDumpMode::Splice as i32,
    /// By `process_vm_readv(2)` while the processes run on.
    Read = CriuPreDumpMode::VmRead as i32,
}

impl PreDumpMode {
    /// Its name, as CRIU's command line and configuration file have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Splice => "splice",
            Self::Read => "read",
        }
    }
}
