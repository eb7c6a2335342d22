//! The end-to-end tests: real containerd, real engines, real CRIU, in the lab.
//!
//! `tests/run` (or `make test`) runs them once for each containerd. Every test starts a
//! containerd of its own, or drives the shim itself as containerd would, and when it ends the
//! fixture checks that nothing is left: no process, mount, cgroup or file. Started outside the
//! lab a test fails and says how to run it; none skips itself.
//!
//! One file for each theme; `support/` holds what they stand on. Tests that name an engine come
//! once for each of `runsc`, `runsc_2024`, `runc` and `crun`.

// Clippy looks for `#[cfg(test)]`; all of this binary is tests.
#![allow(clippy::tests_outside_test_module)]

#[macro_use]
mod support;

mod bootstrap;
mod checkpoint;
mod checkpoint_failures;
mod checkpoint_options;
mod churn;
mod create_failures;
mod daemon;
mod exits;
mod giving_up;
mod gvisor;
mod info;
mod lifecycle;
mod options;
mod publishing;
mod refused_by_criu;
mod requests;
mod restore_failures;
