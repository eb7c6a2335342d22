//! CRIU beneath runc and crun, which start it.
//!
//! What it can do that a runtime has no flag for is said in the file of [`config`], and what a
//! killed restore left is removed by `debris`. Options, and why a dump or restore failed, are
//! `stasis-criu`'s; what a user calls an option is in `words`.

pub mod config;
pub(crate) mod debris;
pub(crate) mod words;
