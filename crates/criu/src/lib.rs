//! CRIU's RPC: the client that Rust did not have.

pub mod rpc;
