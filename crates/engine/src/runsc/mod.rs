//! gVisor's runsc, by its command line.
//!
//! The pid of a container is that of its sandbox, whose exit status is the container's; no
//! `runsc wait` is kept. Processes inside have pids of the sandbox's own kernel, so an exec has
//! two: the resident `runsc exec` on the host, and the one inside.
//!
//! A checkpoint always leaves the sandbox running: one that stops it loses the container when
//! the disk is full, and does not end a paused one at all. The caller ends it by
//! [`Engine::end_frozen`](crate::Engine::end_frozen).
//!
//! Seen of runsc of 2024-07-29 and 2026-07-01.

mod deletion;
mod engine;
mod filestore;
mod handle;
mod ids;
mod kill;
#[cfg(test)]
mod tests;

pub use handle::Runsc;
