//! What a call left that could not be undone.

use std::{fmt, path::PathBuf};

use rustix::process::Pid;

/// Something that a call left and that could not be undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leftover {
    /// A process has a mapping of CRIU's still (`memfd:CRIUMFD`). It runs; the memory is lost
    /// until it ends.
    Mapping {
        /// The process.
        pid: Pid,
    },
    /// A process is stopped and could not be made to run.
    Stopped {
        /// The process.
        pid: Pid,
    },
    /// A freezer cgroup could not be made frozen or thawed as it was.
    Freezer {
        /// The command that does so.
        command: String,
    },
    /// A process that was to be dumped is gone.
    Gone {
        /// The process.
        pid: Pid,
    },
    /// A process could not be reached: it may be stopped, or have what CRIU leaves in processes.
    Unreached {
        /// The process.
        pid: Pid,
    },
    /// A TCP connection says nothing to its peer, since it is in repair mode.
    Repair {
        /// The process that has it.
        pid: Pid,
        /// Its descriptor there.
        descriptor: i32,
    },
    /// A network rule drops the packets of a connection.
    Rule {
        /// The command that removes it.
        command: String,
    },
    /// What the caller did at the hook `network-lock`, since that to undo it, `network-unlock`,
    /// failed.
    NetworkLock {
        /// Why.
        why: String,
    },
    /// A process that was being restored, or the root of those that may have been.
    Process {
        /// The process.
        pid: Pid,
    },
    /// A file that CRIU wrote.
    File {
        /// Its path.
        path: PathBuf,
    },
    /// A service's worker, whose process id nobody knows: it goes on, and may end the processes.
    Worker,
    /// The kernel tracks what changes from this call on, perhaps, and of what changed before nobody
    /// has the pages: an image whose parent is the one before would miss them. So that one is
    /// refused as a parent from now on, and the next image has to be one without.
    Untracked,
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mapping { pid } => write!(f, "a mapping of CRIU's in process {}", pid.as_raw_pid()),
            Self::Stopped { pid } => write!(f, "process {} is stopped", pid.as_raw_pid()),
            Self::Freezer { command } => {
                write!(f, "a freezer cgroup, which `{command}` makes what it was")
            }
            Self::Gone { pid } => write!(f, "process {} is gone", pid.as_raw_pid()),
            Self::Unreached { pid } => write!(
                f,
                "process {} could not be reached, and may be stopped",
                pid.as_raw_pid()
            ),
            Self::Repair { pid, descriptor } => write!(
                f,
                "the TCP connection that is descriptor {descriptor} of process {} is in repair mode",
                pid.as_raw_pid()
            ),
            Self::Rule { command } => write!(f, "a network rule, which `{command}` removes"),
            Self::NetworkLock { why } => write!(
                f,
                "what was done at the hook network-lock, since network-unlock failed ({why})"
            ),
            Self::Process { pid } => {
                write!(f, "process {}, which was being restored", pid.as_raw_pid())
            }
            Self::File { path } => write!(f, "the file {}", path.display()),
            Self::Worker => f.write_str(
                "the service's worker, which cannot be cancelled: it goes on, and may end the processes",
            ),
            Self::Untracked => f.write_str(
                "a gap in what the kernel has tracked: the next image must be one without a parent",
            ),
        }
    }
}

/// What a call left behind that could not be undone. It is seldom anything, unless CRIU was killed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left(Vec<Leftover>);

impl Left {
    /// Whether nothing was left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn as_slice(&self) -> &[Leftover] {
        &self.0
    }

    /// What was left.
    pub fn iter(&self) -> impl Iterator<Item = &Leftover> {
        self.0.iter()
    }
}

impl From<Vec<Leftover>> for Left {
    fn from(left: Vec<Leftover>) -> Self {
        Self(left)
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, leftover) in self.0.iter().enumerate() {
            let before = if index == 0 { "; this is left: " } else { ", " };
            write!(f, "{before}{leftover}")?;
        }
        Ok(())
    }
}
