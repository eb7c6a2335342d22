//! CRIU beneath runc and crun: its configuration file, its log, and whether it is there.
//!
//! Nothing here starts a dump; the runtimes do. What CRIU can do that a runtime has no flag for
//! is said in the file of [`config`]; why a dump or restore failed is found by [`log`], and what
//! a killed restore left is removed by `debris`.

pub mod config;
pub(crate) mod debris;
pub mod log;
