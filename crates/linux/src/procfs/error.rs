//! Why nothing is known of a process.

use std::io;

/// What `/proc` says could not be had.
#[derive(Debug, thiserror::Error)]
#[expect(
    clippy::error_impl_error,
    reason = "the one error of this module, as in `std::io`"
)]
pub enum Error {
    /// There is no such process, or not any more: its number may be another's by now.
    #[error("process {pid} is gone")]
    Gone {
        /// Which process.
        pid: u32,
    },
    /// What `/proc` says of a process could not be had.
    #[error("cannot read {what} of process {pid}")]
    Read {
        /// Which process.
        pid: u32,
        /// What was asked for, as it is called in `/proc/PID`.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// What the kernel says of the machine or of all processes could not be had.
    #[error("cannot read {what}")]
    Kernel {
        /// What was asked for.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}
