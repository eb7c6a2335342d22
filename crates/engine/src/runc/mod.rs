//! runc and crun, by their command lines, which differ little: what does is told by [`Kind`] and
//! [`RuntimeVersion`]. Checkpoint and restore, which go through CRIU, are in `images`.
//!
//! Seen of runc 1.1.15 and 1.3.6, crun 1.21 and 1.28.

mod engine;
mod freeze;
mod handle;
mod images;
mod kill;
#[cfg(test)]
mod tests;

pub(crate) use handle::Runc;
