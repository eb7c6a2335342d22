//! The unsafe part of this crate: what happens between fork and exec, and signals by number.

use std::io;

use nix::{errno::Errno, libc, unistd::Pid};
use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};
use tokio::process::Command;

/// Has the kernel kill the child with SIGKILL when the thread that starts it ends.
///
/// A runtime that outlives its shim would go on changing a container that somebody else, the
/// next `delete`, is removing.
pub(crate) fn die_with_parent(command: &mut Command) {
    let parent = getpid();
    let in_child = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // Had the parent died before the call above, no signal would ever come.
        if getppid() == Some(parent) {
            Ok(())
        } else {
            Err(io::Error::from(Errno::ESRCH))
        }
    };
    // SAFETY: the closure makes two system calls on values that it owns; it neither allocates nor
    // takes a lock, so it may run in the child of a process with several threads.
    unsafe { command.pre_exec(in_child) };
}

/// kill(2) with any signal of the kernel: the enums of nix and rustix leave out the real-time
/// ones.
pub(crate) fn kill(pid: Pid, signal: i32) -> Result<(), Errno> {
    // SAFETY: no pointers; both arguments are plain numbers that the kernel checks.
    Errno::result(unsafe { libc::kill(pid.as_raw(), signal) }).map(drop)
}
