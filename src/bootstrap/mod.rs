//! The shim v2 contract: what containerd runs, sends and expects before there is a task service,
//! and after (containerd's `docs/runtime-v2.md`, and what its releases do).
//!
//! ```text
//! containerd ── start ──► binds the socket, starts the server ── address ──► containerd
//!                                  │
//!                              server ◄── ttrpc: tasks ── containerd
//!                                  │ ── ttrpc: events ──► containerd
//! containerd ── delete ─► cleans up after a shim that has died ── exit status ──► containerd
//! containerd ── -info ──► describes the runtime
//! ```
//!
//! One file per action. Which action it is, main says; what the task service does is elsewhere.

mod delete;
mod frame_stream;
mod info;
mod serve;
mod shim_cgroup;
mod socket;
mod start;
mod stdin;
mod unknown_service;

pub use containerd_shim::parse;
pub use delete::delete;
pub use info::{info, version};
pub use serve::{ServiceContext, TaskService, serve};
pub use start::start;
