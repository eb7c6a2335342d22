#![doc = include_str!("../README.md")]

mod error;
mod exec;
mod exit;
mod init;
mod monitor;
mod mount;
mod stdio;
mod sync;
mod sys;

#[cfg(test)]
mod fake;

pub use error::{Error, ErrorKind, Result};
pub use exec::{Exec, ExecConfig};
pub use exit::{Exit, ExitSender, NO_STATUS};
pub use init::{Checkpointing, CreateConfig, Init, InitConfig, RestoreConfig, Status};
pub use monitor::{Birth, Process, ProcessExit, ProcessMonitor, Subscription};
pub use mount::Mount;
pub use stasis_engine::Runsc;
pub use stdio::StdioPaths;

/// Where gVisor's shim, and so ours, lets runsc keep its state unless told otherwise. The
/// namespace is appended.
pub const DEFAULT_ROOT: &str = "/run/containerd/runsc";
