//! Drives OCI runtimes: gVisor's `runsc`, `runc` and `crun`.
//!
//! [`Engine`] is what the process objects of a shim need from a runtime; [`connect()`] asks a
//! binary what it is and gives the engine for it. Every engine is driven by its command line
//! ([`command`]): each call has a deadline, runs in a process group of its own, and fails with
//! the runtime's own last error line.
//!
//! A checkpoint image is sealed and checked by [`manifest`]. What runc and crun do not tell CRIU,
//! through which they dump and restore, is told it by [`criu`]; why it failed `stasis-criu` finds.
//!
//! This crate is the only one that starts a runtime. It knows neither containerd nor ttrpc, and
//! it does not reap what it did not start: see [`Children`].

mod answer;
mod calls;
pub mod children;
pub mod command;
mod connect;
pub mod criu;
mod duration;
mod engine;
mod error;
#[cfg(test)]
mod fake;
pub mod host;
pub mod identify;
mod identity;
pub mod manifest;
mod options;
mod runc;
mod runsc;
mod settings;
mod vacant;
mod verbs;

pub use calls::{
    Afterwards, Checkpoint, CheckpointReport, Create, EngineState, EngineStatus, Exec, ExecPids,
    Restore, Signal, Stdio, Target,
};
pub use children::Children;
pub use connect::{connect, connect_as};
pub use engine::Engine;
pub use error::{Error, Result};
pub use identity::{Identity, Kind, RuntimeVersion};
pub use manifest::Phase;
pub use options::CheckpointOptions;
pub use runsc::Runsc;
pub use settings::{Settings, Timeouts};
pub use stasis_criu::options::CgroupMode;
