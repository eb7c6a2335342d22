//! The client with the real CRIU, on a kernel that tracks which memory changes and has cgroup
//! version 2: in the lab's virtual machine (`tests/criu --suite vm`).

#![cfg(test)]

mod chain;
mod memory;
#[expect(dead_code, reason = "it is there for the lab's tests too")]
#[path = "../lab/victim.rs"]
mod victim;

use std::env;

use stasis_criu::Criu;

/// Says what is missing when a test is started elsewhere.
const MACHINE: &str = "these tests need the lab's virtual machine: tests/criu --suite vm";

/// The CRIU of the virtual machine.
fn criu() -> Criu {
    assert!(env::var_os("STASIS_LAB_VM").is_some(), "{MACHINE}");
    victim::criu()
}

/// A directory on disk.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env::var_os("STASIS_LAB_SCRATCH").expect(MACHINE)).unwrap()
}
