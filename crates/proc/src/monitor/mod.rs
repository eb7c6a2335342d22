//! Reaping, by pidfd first.
//!
//! Three kinds of children end in a shim, and each is reaped by one owner only:
//! - what this process forked is waited for where it was forked (`tokio::process`), and is in the
//!   registry [`Children`] meanwhile;
//! - the processes of containers are reparented to us, the subreaper, when the runtime that made
//!   them exits. [`Birth::adopt`] takes them over: a pidfd, an entry in the registry and a task
//!   that waits with `waitid(P_PIDFD)` (`watched`);
//! - strays, children that nobody owns (runsc's gofer, orphans of a container without a PID
//!   namespace), are reaped by the sweeper (`sweep`) when SIGCHLD tells of a death.
//!
//! A container's init may end between the exit of its runtime and its adoption, and the sweeper
//! cannot know whose it was. So while a [`Birth`] is expected, what is swept is kept in reach:
//! adopting a pid that was swept during the birth gives a [`Watched`] that has ended, with the
//! right status. Sweeping is not suspended meanwhile, since runtimes wait in the middle of their
//! work for us to reap (`runsc delete` for its gofer, for five seconds).
//!
//! The kernel must be 5.4 or later, for `P_PIDFD`.

mod registry;
mod sweep;
mod watched;

#[cfg(test)]
mod tests;

pub use registry::{Birth, ProcessMonitor, Subscription};
pub use watched::Watched;
