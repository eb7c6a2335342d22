//! The process objects of a containerd shim: what runs, in which state it is, how it ended, and
//! where its bytes go.
//!
//! [`Init`] is the first process of a container and stands for the container itself; [`Exec`] is
//! one more process in it. Their verbs are those of containerd's task API, each permitted in some
//! states only ([`Error::WrongState`] names the verb and the state). [`ProcessMonitor`] reaps:
//! a process that is waited for is known by its pidfd, and no loop over `waitpid(-1)` steals the
//! exits of others. Standard streams are pipes towards the container and FIFOs towards
//! containerd; the bytes between them are spliced and never pass through this process's memory.
//!
//! The surface follows gVisor's Go package `pkg/shim/v1/proc`, so that who knows one finds their
//! way in the other. What a verb does in an OCI runtime is the business of `stasis-engine`;
//! ttrpc, events, rootfs mounts and cgroups are the shim's.
//!
//! Everything here wants a tokio runtime with I/O and time enabled, one thread is enough. Nothing
//! here wakes up while nothing happens: no timer runs but inside a bounded wait.

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
