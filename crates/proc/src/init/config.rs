//! What an init process is made of, and what its verbs need.

use std::{path::PathBuf, sync::Arc};

use stasis_engine::{CheckpointOptions, Engine};

use crate::{exit::ExitSender, monitor::ProcessMonitor, stdio::StdioPaths};

/// What a container's init process is made of, for as long as it lives.
#[derive(Debug)]
pub struct InitConfig {
    /// The container's id.
    pub id: String,
    /// Its OCI bundle.
    pub bundle: PathBuf,
    /// Where files of this container go that are none of the bundle's.
    pub work_dir: PathBuf,
    /// The runtime.
    pub engine: Arc<dyn Engine>,
    /// Who reaps its processes.
    pub monitor: Arc<ProcessMonitor>,
    /// Where the ends of init and of exec processes are sent.
    pub exits: ExitSender,
    /// The user that owns the container's ends of its streams.
    pub io_uid: u32,
    /// Their group.
    pub io_gid: u32,
    /// Whether this is the sandbox of a pod, or a container of its own.
    pub sandbox: bool,
    /// Where runsc writes what it has to say to the container's user.
    pub user_log: Option<PathBuf>,
    /// Whether the container's other processes survive its init unless they are killed: it has
    /// no PID namespace of its own.
    pub kill_all_on_exit: bool,
}

/// What [`crate::Init::create`] needs.
#[derive(Debug, Default)]
pub struct CreateConfig {
    /// The streams of the init process.
    pub stdio: StdioPaths,
    /// Makes the start a restore.
    pub restore: Option<RestoreConfig>,
}

/// What a restore needs.
#[derive(Debug, Clone)]
pub struct RestoreConfig {
    /// The directory of the checkpoint image.
    pub image: PathBuf,
    /// Where CRIU's log goes. It exists.
    pub work: PathBuf,
    /// The options that the image was made with.
    pub options: CheckpointOptions,
}
