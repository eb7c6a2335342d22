//! The client with the real CRIU, in the lab (`make test`).

#![cfg(test)]

mod about;
mod cancelled;
mod cancelling;
mod certificates;
mod conversation;
mod exerciser;
mod hooks;
mod killed;
mod outcomes;
mod pages;
mod programs;
mod refusals;
mod rounds;
mod service;
#[path = "../support/sys.rs"]
mod sys;
mod tree;
mod victim;
