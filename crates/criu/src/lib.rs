//! CRIU's RPC: the client that Rust did not have.

mod child;
mod client;
mod diagnosis;
mod error;
mod files;
mod link;
mod notify;
pub mod options;
pub mod pages;
pub mod process;
mod request;
pub mod rpc;
mod stats;
mod swrk;
mod sys;
mod transport;
mod undo;
mod unknown;
mod version;

pub use child::SpawnError;
pub use client::{
    Call, Connection, Criu, Dumped, Features, GRACE, IgnoredHook, PageServerChild,
    PageServerStarted, PreDumped, Restored,
};
pub use diagnosis::{CrErrno, Diagnosis, Evidence, KnownCause, Log, diagnose};
pub use error::{Error, Left};
pub use files::Directory;
pub use link::ProtocolError;
pub use notify::{Hook, HookError, HookResult, NoHooks, Notify};
pub use options::{OptionError, Options};
pub use pages::PagesError;
pub use request::Request;
pub use stats::{DumpStats, Pages, RestoreStats, StatsError};
pub use transport::TransportError;
pub use undo::Leftover;
pub use unknown::{MalformedMessage, UnknownField, UnknownFields};
pub use version::Version;
