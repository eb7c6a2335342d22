//! What a dump or a restore tells of itself in `stats-dump` and `stats-restore`.
//!
//! CRIU writes them to its work directory, which is the images directory unless another was set.
//! It writes them at the end of a run that succeeded: after a failure a file that is there is an
//! earlier run's.
//!
//! Framing: two magic numbers, a length and one message, all little-endian. Facts: CRIU 4.2's
//! `criu/include/magic.h`, `criu/stats.c` and `images/stats.proto`.

use std::{io, path::Path, time::Duration};

use stasis_linux::file::{self, Directory};
use thiserror::Error;

use crate::{
    rpc::stats::{DumpStatsEntry, RestoreStatsEntry, StatsEntry},
    unknown::{self, MalformedMessage},
};

const DUMP: &str = "stats-dump";
const RESTORE: &str = "stats-restore";

/// In the head of files that are no images: `IMG_SERVICE_MAGIC`.
const SERVICE: u32 = 0x5510_5940;
/// `STATS_MAGIC`.
const STATS: u32 = 0x5709_3306;
/// Both magic numbers and the length of the message.
const HEADER: usize = 12;
/// The message has 14 numbers of at most 11 bytes each; a newer CRIU may count more.
const MAX_FILE: u64 = 4096;

/// Statistics of a dump, or of a pre-dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DumpStats {
    /// How long it took to stop all processes.
    pub freezing: Duration,
    /// How long they stood still.
    pub frozen: Duration,
    /// How long it took to get at their memory.
    pub memory_dump: Duration,
    /// How long it took to write their memory.
    pub memory_write: Duration,
    /// How long the search for the paths of watched files took, where CRIU tells it.
    pub irmap_resolve: Option<Duration>,
    /// Pages of private memory.
    pub pages: Pages,
    /// Pages left for later, to be sent when they are touched.
    pub lazy_pages: u64,
    /// Pages of shared memory. `None` for a CRIU that does not count them.
    pub shared_pages: Option<Pages>,
    /// The pipes that the pages went through.
    pub page_pipes: Option<u64>,
    /// The buffers of these pipes.
    pub page_pipe_buffers: Option<u64>,
}

/// What became of pages of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pages {
    /// Looked at.
    pub scanned: u64,
    /// Left out, since the parent image has them.
    pub skipped_parent: u64,
    /// Written to the image.
    pub written: u64,
}

/// Statistics of a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestoreStats {
    /// How long it took to fork all processes.
    pub forking: Duration,
    /// How long the restore took, from the start until the processes run.
    pub restore: Duration,
    /// Pages compared with those that a process has of its parent.
    pub pages_compared: u64,
    /// Pages found to be alike, and left shared with the parent.
    pub pages_skipped_cow: u64,
    /// Pages written to memory. `None` for a CRIU that does not count them.
    pub pages_restored: Option<u64>,
}

/// Why there are no statistics.
#[derive(Debug, Error)]
pub enum StatsError {
    /// The file cannot be opened: it is not there, a link, or no regular file.
    #[error("cannot open {name}")]
    Open {
        /// The file's name.
        name: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It cannot be read.
    #[error("cannot read {name}")]
    Read {
        /// The file's name.
        name: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It is longer than CRIU would write it.
    #[error("{name} is longer than {MAX_FILE} bytes")]
    TooLong {
        /// The file's name.
        name: &'static str,
    },
    /// It does not begin with the magic numbers of statistics.
    #[error("{name} is no file of statistics: its magic numbers are {head:#010x} and {kind:#010x}")]
    Magic {
        /// The file's name.
        name: &'static str,
        /// Its first number.
        head: u32,
        /// Its second number.
        kind: u32,
    },
    /// It ends before it should.
    #[error("{name} is cut short: it has {length} bytes of {expected}")]
    CutShort {
        /// The file's name.
        name: &'static str,
        /// How long it is.
        length: usize,
        /// How long it would have to be, as far as it tells.
        expected: usize,
    },
    /// There is more after the message.
    #[error("{name} has {surplus} bytes after its end")]
    Surplus {
        /// The file's name.
        name: &'static str,
        /// How many.
        surplus: usize,
    },
    /// What is in it is not the message that should be.
    #[error("{name} is malformed")]
    Malformed {
        /// The file's name.
        name: &'static str,
        /// How.
        source: MalformedMessage,
    },
    /// It is about something else: a dump instead of a restore, or the reverse.
    #[error("{name} has no statistics of that kind")]
    Kind {
        /// The file's name.
        name: &'static str,
    },
}

impl DumpStats {
    /// Reads `stats-dump` in the dump's work directory, or in its images directory if it had no
    /// work directory.
    ///
    /// ```no_run
    /// let stats = stasis_criu::DumpStats::read(std::path::Path::new("/var/lib/images"))?;
    /// println!("frozen for {:?}", stats.frozen);
    /// # Ok::<(), stasis_criu::StatsError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the file is not there or is not what CRIU writes.
    pub fn read<'a>(directory: impl Into<Directory<'a>>) -> Result<Self, StatsError> {
        let entry = read(directory.into(), DUMP)?.dump;
        Ok(entry.ok_or(StatsError::Kind { name: DUMP })?.into())
    }
}

impl DumpStats {
    /// What was counted after `earlier`, if this counts on from there: nothing became less.
    pub(crate) fn since(&self, earlier: &Self) -> Option<Self> {
        let time = Duration::checked_sub;
        let count = u64::checked_sub;
        Some(Self {
            freezing: time(self.freezing, earlier.freezing)?,
            frozen: time(self.frozen, earlier.frozen)?,
            memory_dump: time(self.memory_dump, earlier.memory_dump)?,
            memory_write: time(self.memory_write, earlier.memory_write)?,
            irmap_resolve: told(self.irmap_resolve, earlier.irmap_resolve, time)?,
            pages: self.pages.since(earlier.pages)?,
            lazy_pages: count(self.lazy_pages, earlier.lazy_pages)?,
            shared_pages: told(self.shared_pages, earlier.shared_pages, Pages::since)?,
            page_pipes: told(self.page_pipes, earlier.page_pipes, count)?,
            page_pipe_buffers: told(self.page_pipe_buffers, earlier.page_pipe_buffers, count)?,
        })
    }
}

impl Pages {
    fn since(self, earlier: Self) -> Option<Self> {
        Some(Self {
            scanned: self.scanned.checked_sub(earlier.scanned)?,
            skipped_parent: self.skipped_parent.checked_sub(earlier.skipped_parent)?,
            written: self.written.checked_sub(earlier.written)?,
        })
    }
}

/// The difference of what CRIU may tell. The outer `None`: there is none.
fn told<T>(
    new: Option<T>,
    earlier: Option<T>,
    difference: fn(T, T) -> Option<T>,
) -> Option<Option<T>> {
    match (new, earlier) {
        (Some(new), Some(earlier)) => difference(new, earlier).map(Some),
        (new, _) => Some(new),
    }
}

impl RestoreStats {
    /// Reads `stats-restore` in the restore's work directory, or in its images directory if it had
    /// no work directory.
    ///
    /// ```no_run
    /// let stats = stasis_criu::RestoreStats::read(std::path::Path::new("/var/lib/images"))?;
    /// println!("restored in {:?}", stats.restore);
    /// # Ok::<(), stasis_criu::StatsError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the file is not there or is not what CRIU writes.
    pub fn read<'a>(directory: impl Into<Directory<'a>>) -> Result<Self, StatsError> {
        let entry = read(directory.into(), RESTORE)?.restore;
        Ok(entry.ok_or(StatsError::Kind { name: RESTORE })?.into())
    }
}

impl From<DumpStatsEntry> for DumpStats {
    fn from(entry: DumpStatsEntry) -> Self {
        let shared_pages = entry.shpages_scanned.map(|scanned| Pages {
            scanned,
            skipped_parent: entry.shpages_skipped_parent(),
            written: entry.shpages_written(),
        });
        Self {
            freezing: microseconds(entry.freezing_time),
            frozen: microseconds(entry.frozen_time),
            memory_dump: microseconds(entry.memdump_time),
            memory_write: microseconds(entry.memwrite_time),
            irmap_resolve: entry.irmap_resolve.map(microseconds),
            pages: Pages {
                scanned: entry.pages_scanned,
                skipped_parent: entry.pages_skipped_parent,
                written: entry.pages_written,
            },
            lazy_pages: entry.pages_lazy,
            shared_pages,
            page_pipes: entry.page_pipes,
            page_pipe_buffers: entry.page_pipe_bufs,
        }
    }
}

impl From<RestoreStatsEntry> for RestoreStats {
    fn from(entry: RestoreStatsEntry) -> Self {
        Self {
            forking: microseconds(entry.forking_time),
            restore: microseconds(entry.restore_time),
            pages_compared: entry.pages_compared,
            pages_skipped_cow: entry.pages_skipped_cow,
            pages_restored: entry.pages_restored,
        }
    }
}

fn microseconds(count: u32) -> Duration {
    Duration::from_micros(u64::from(count))
}

fn read(directory: Directory<'_>, name: &'static str) -> Result<StatsEntry, StatsError> {
    let file = directory
        .open(Path::new(name))
        .map_err(|source| StatsError::Open { name, source })?;
    let bytes = file::head(file, MAX_FILE).map_err(|source| StatsError::Read { name, source })?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(StatsError::TooLong { name });
    }
    decode(&bytes, name)
}

fn decode(bytes: &[u8], name: &'static str) -> Result<StatsEntry, StatsError> {
    let cut = |expected| StatsError::CutShort {
        name,
        length: bytes.len(),
        expected,
    };
    let mut rest = bytes;
    let mut number = || {
        let (bytes, after) = rest.split_first_chunk()?;
        rest = after;
        Some(u32::from_le_bytes(*bytes))
    };
    let (Some(head), Some(kind), Some(size)) = (number(), number(), number()) else {
        return Err(cut(HEADER));
    };
    if (head, kind) != (SERVICE, STATS) {
        return Err(StatsError::Magic { name, head, kind });
    }
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let Some((message, surplus)) = rest.split_at_checked(size) else {
        return Err(cut(HEADER.saturating_add(size)));
    };
    if !surplus.is_empty() {
        let surplus = surplus.len();
        return Err(StatsError::Surplus { name, surplus });
    }
    let (entry, _newer) = unknown::decode("criu.stats.stats_entry", message)
        .map_err(|source| StatsError::Malformed { name, source })?;
    Ok(entry)
}

#[cfg(test)]
mod tests;
