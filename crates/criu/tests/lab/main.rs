//! The client with the real CRIU, in the lab (`make test`).

#![cfg(test)]

mod cancelled;
mod rounds;
mod victim;
