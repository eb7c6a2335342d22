//! How a process ended, and the channel that tells it.

use std::time::SystemTime;

use nix::unistd::Pid;
use tokio::sync::mpsc::UnboundedSender;

/// The status of what has no status of its own: it could not be started, was deleted before it
/// ran, or was reaped by somebody else. gVisor's shim gives the same.
pub const NO_STATUS: u32 = 128;

/// The end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessExit {
    /// Which process.
    pub pid: Pid,
    /// Its exit code, or 128 and the signal that ended it.
    pub status: u32,
    /// When it was reaped.
    pub timestamp: SystemTime,
}

/// The end of an init or exec process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// When it was reaped.
    pub timestamp: SystemTime,
    /// The container's id, or the exec's.
    pub id: String,
    /// Its exit code, or 128 and the signal that ended it.
    pub status: u32,
}

impl Exit {
    /// The end of `id` that its process shows.
    pub(crate) fn of(id: &str, exit: ProcessExit) -> Self {
        Self {
            timestamp: exit.timestamp,
            id: id.to_owned(),
            status: exit.status,
        }
    }

    /// The end, now, of an `id` that never ran.
    pub(crate) fn without_status(id: &str) -> Self {
        Self {
            timestamp: SystemTime::now(),
            id: id.to_owned(),
            status: NO_STATUS,
        }
    }
}

/// Where the exits of a container's processes are sent, each once.
pub type ExitSender = UnboundedSender<Exit>;
