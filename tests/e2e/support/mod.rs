//! What the tests stand on: the lab, a containerd, the engines, a client of the shim.

#[macro_use]
pub mod engine;

pub mod bundle;
pub mod cgroup;
pub mod command;
pub mod containerd;
pub mod counted;
pub mod counter;
pub mod daemon;
pub mod events;
pub mod exec;
pub mod gate;
pub mod host;
pub mod lab;
pub mod leftovers;
pub mod mounted;
pub mod options;
pub mod output;
pub mod script;
pub mod shim;
pub mod wait;
