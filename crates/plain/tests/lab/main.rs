//! Plain processes, and the client of CRIU that dumps them, with the real CRIU, in the lab (`make
//! test`).

#![cfg(test)]

mod conversation;
#[path = "../../../criu/tests/lab/exerciser.rs"]
mod exerciser;
mod hooks;
mod outcomes;
#[path = "../../../criu/tests/lab/programs.rs"]
mod programs;
mod refusals;
#[path = "../../../criu/tests/support/sys.rs"]
mod sys;
mod tree;
#[allow(dead_code, reason = "the client's tests use more of it")]
#[path = "../../../criu/tests/lab/victim.rs"]
mod victim;
