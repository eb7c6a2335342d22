//! The command with the real CRIU, in the lab (`make test`).

#![cfg(test)]

mod asking;
mod command;
mod dumps;
mod failures;
mod processes;
mod streams;
#[path = "../../../criu/tests/support/sys.rs"]
mod sys;
