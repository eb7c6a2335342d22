//! The client with the real CRIU, in the lab (`make test`).

#![cfg(test)]

mod about;
mod cancelled;
mod cancelling;
mod certificates;
#[allow(dead_code, reason = "the tests of plain processes use more of it")]
mod exerciser;
mod killed;
mod pages;
mod programs;
mod rounds;
mod service;
#[path = "../support/sys.rs"]
mod sys;
mod victim;
