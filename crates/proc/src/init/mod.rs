//! The init process of a container, which stands for the container itself.
//!
//! The exit of the container is the exit of the process whose pid the engine gives: init, or
//! runsc's sandbox, which exits as the container does. It is adopted before it is started, so
//! that one which ends at once is not missed, and the death of one that never starts is noticed.
//!
//! One file for each verb, or pair of verbs; what is permitted when is in `state`. A verb that
//! fails leaves the state as it was, but for a restore, which leaves a stopped container.

mod checkpoint;
mod config;
mod create;
mod delete;
mod exit;
mod handle;
mod kill;
mod pause;
mod start;
mod state;
mod verb;

#[cfg(test)]
mod tests;

pub use checkpoint::Checkpointing;
pub use config::{CreateConfig, InitConfig, RestoreConfig};
pub(crate) use delete::DRAIN_LIMIT;
pub use handle::Init;
pub(crate) use handle::{cannot_watch, remove_file};
