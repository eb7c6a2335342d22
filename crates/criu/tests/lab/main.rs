//! The client with the real CRIU, in the lab (`make test`).

#![cfg(test)]

mod about;
mod cancelled;
mod exerciser;
mod rounds;
mod tree;
mod victim;
