#![doc = include_str!("../README.md")]

mod error;
mod exec;
mod exit;
mod gvisor;
mod init;
mod monitor;
mod status;
mod stdio;
mod sync;

#[cfg(test)]
mod fake;

pub use error::{Error, ErrorKind, Result};
pub use exec::{Exec, ExecConfig};
pub use exit::{Exit, ExitSender, NO_STATUS, ProcessExit};
pub use gvisor::{DEFAULT_ROOT, RootfsMount, Runsc};
pub use init::{Checkpointing, CreateConfig, Init, InitConfig, RestoreConfig};
pub use monitor::{Birth, ProcessMonitor, Subscription, Watched};
pub use status::Status;
pub use stdio::StdioPaths;
