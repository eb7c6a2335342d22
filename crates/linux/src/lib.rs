//! What Linux says and does, for all the others: it uses nothing of ours.
//!
//! - [`pidfd`]: processes, each held so that what is sent to one reaches no other.
//! - [`procfs`]: what `/proc/PID` says of a process.
//! - [`mountinfo`]: the mounts of a namespace, and detaching what is below a directory.
//! - [`cgroup`]: which a process is in, who is in one, freezing, thawing and killing them.
//! - [`file`](mod@file): reading no more of a file than is asked for, and following no link.
//! - [`chain`](mod@chain): an error and its causes, as one line.
//! - [`sys`]: the system calls that no safe crate has. The only unsafe code.
//!
//! Nothing here knows containers, runtimes or CRIU, and nothing is read without a bound.

pub mod cgroup;
pub mod chain;
pub mod file;
pub mod lines;
pub mod mountinfo;
pub mod pidfd;
pub mod procfs;
pub mod sys;

pub use chain::chain;
pub use pidfd::Pidfd;
