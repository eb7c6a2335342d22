//! The client with the real CRIU, on a kernel that tracks which memory changes and has cgroup
//! version 2: in the lab's virtual machine (`tests/criu --suite vm`).

#![cfg(test)]

mod cancelled;
#[path = "../lab/cancelling.rs"]
mod cancelling;
#[path = "../lab/certificates.rs"]
mod certificates;
mod cgroups;
mod chain;
mod lazy;
mod memory;
#[path = "../lab/programs.rs"]
mod programs;
#[path = "../support/sys.rs"]
mod sys;
#[allow(dead_code, reason = "the lab's tests use more of it, or less")]
#[path = "../lab/victim.rs"]
mod victim;

use std::env;

use rustix::process::{Pid, WaitOptions, waitpid};
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

/// Ends a restored tree, and waits until all of it is gone.
fn end(root: Pid) {
    let pids = victim::tree(root.as_raw_pid().cast_unsigned());
    for pid in &pids {
        victim::kill(*pid);
    }
    waitpid(Some(root), WaitOptions::empty()).unwrap();
    // The root's children are reaped by the machine's first process.
    sys::await_free(&pids, victim::PATIENCE);
}
