//! What containerd hears of a task, in our own terms.

use std::path::PathBuf;

use stasis_proc::{Exit, StdioPaths};

use crate::mounts::MountRequest;

/// Something that has happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It was created.
    Created(Box<Created>),
    /// Its init was started, or the container restored.
    Started {
        /// The pid of init.
        pid: u32,
    },
    /// A process was added to it.
    ExecAdded {
        /// The process's id.
        exec: String,
    },
    /// That process was started.
    ExecStarted {
        /// The process's id.
        exec: String,
        /// Its pid.
        pid: u32,
    },
    /// It was frozen.
    Paused,
    /// It was thawed.
    Resumed,
    /// An image of it is whole.
    Checkpointed {
        /// The image directory.
        image: PathBuf,
    },
    /// One of its processes has ended.
    Exited {
        /// The process's pid.
        pid: u32,
        /// Which one it is, and how it ended.
        exit: Exit,
    },
    /// Nothing is left of it.
    Deleted {
        /// The pid that init had.
        pid: u32,
        /// How init ended.
        exit: Exit,
    },
}

/// A container as it was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// The bundle directory.
    pub bundle: PathBuf,
    /// What its root file system is mounted from.
    pub rootfs: Vec<MountRequest>,
    /// The streams of its init.
    pub stdio: StdioPaths,
    /// The image that it will be restored from.
    pub checkpoint: Option<PathBuf>,
    /// The pid of init; zero where there is none before the restore.
    pub pid: u32,
}
