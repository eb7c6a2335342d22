//! What no safe wrapper offers: a signal by number, real-time signals included, and a descriptor
//! in the hands of tokio's reactor.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
    sync::Arc,
};

use rustix::{
    io::Errno,
    process::{Signal, pidfd_send_signal},
};
use tokio::io::{Interest, unix::AsyncFd};

/// The highest signal number of Linux (signal(7)).
const SIGNAL_MAX: i32 = 64;

/// Sends signal `number` to the process of `pidfd`.
pub(crate) fn send_signal(pidfd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    if !(1..=SIGNAL_MAX).contains(&number) {
        return Err(Errno::INVAL.into());
    }
    // SAFETY: the number is a signal of the kernel. That libc keeps 32 and 33 for itself matters
    // where they are handled, in the process that is signalled; here the number only goes to the
    // kernel.
    let signal = unsafe { Signal::from_raw_unchecked(number) };
    Ok(pidfd_send_signal(pidfd, signal)?)
}

/// Has the reactor of the current runtime watch a descriptor. It is shared so that its owner can
/// go on using it.
pub(crate) fn watch(fd: Arc<OwnedFd>, interest: Interest) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: an `OwnedFd` is open and stays the same file until it is dropped, and it is not
    // before the `AsyncFd` has dropped its share; an `Arc` never swaps what it points to.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}
