//! Runs one command of a runtime.
//!
//! Every call has a deadline, a process group of its own and an error that carries the runtime's
//! own last error line: from the log that `--log` names (`log`), else from its stderr. How the
//! process is started, watched and reaped is in `process`.
//!
//! `create`, `restore` and `exec` hand the container's streams to the runtime. Nothing is
//! collected there, since what the runtime leaves behind holds them for as long as it lives.

mod log;
mod process;
mod runtime;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use runtime::{Invocation, Runtime, output, shortened};
