//! A client for CRIU: everything that its RPC offers, typed and async.
//!
//! ```no_run
//! use std::{path::Path, time::Duration};
//!
//! use stasis_criu::{Criu, Options};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let criu = Criu::new();
//! let images = Path::new("/var/lib/images/1");
//!
//! let options = Options::new(images).pid(4711);
//! let dumped = criu.dump(&options).within(Duration::from_secs(30)).await?;
//! if let Some(stats) = dumped.stats {
//!     println!("frozen for {:?}, {} pages", stats.frozen, stats.pages.written);
//! }
//!
//! // Back again, here or on another machine.
//! let restored = criu.restore(&Options::new(images)).await?;
//! println!("process {} goes on", restored.pid.as_raw_pid());
//! # Ok(())
//! # }
//! ```
//!
//! What a tree of processes needs of these options, and how it is run so that it can be dumped, is
//! the business of the crate `stasis_plain`, or of a container's runtime.
//!
//! # Layers
//! Each can be used without those above it.
//!
//! - [`Criu`]: the calls. [`Criu::dump`] and its like give a [`Call`], which is made when it is
//!   awaited; hooks ([`Notify`]), a deadline and a way to cancel it are added before.
//!   [`Criu::prepare`] opens a [`Connection`] for several.
//! - [`pages`]: memory over a socket, for dumps to another machine and for restores whose memory
//!   comes later.
//! - [`options`]: one typed builder for all of CRIU's options, [`Options`]. It is checked for the
//!   request and for CRIU's release before anything is asked, and can be written as a configuration
//!   file for a CRIU that somebody else starts.
//! - [`rpc`]: the messages themselves, generated from `proto/rpc.proto`.
//!
//! A failure is an [`Error`]; where CRIU failed it has a [`Diagnosis`]: the cause, from CRIU's log
//! and what it said on stderr, and the way out where that is known.
//!
//! # Cancellation
//! A call ends early when its deadline passes ([`Call::within`]), when the caller says so
//! ([`Call::until`]) or when its future is dropped. CRIU is then brought to give up in order: the
//! processes of a dump run on as before, those of a restore are gone, and the files are removed.
//! That is the business of a thread that outlives the future, and the runtime that it was in;
//! [`Criu::idle`] waits for it. Killing CRIU or closing its socket would do harm instead: see
//! `docs/criu.md`.
//!
//! # What it needs
//! Linux, and CRIU in `PATH` or wherever [`Criu::with_binary`] says; made for 4.1 and 4.2, and tried
//! with 4.1.1 and 4.2.1. CRIU has to be root (or to have `CAP_CHECKPOINT_RESTORE` and
//! [`Options::unprivileged`]). What the kernel lacks [`Criu::check`] and [`Criu::features`] tell.
//!
//! The program is async on tokio, but a call needs nothing of the caller's runtime: CRIU's side has
//! one of its own.

mod chain;
mod child;
mod client;
mod diagnosis;
mod error;
mod link;
mod notify;
pub mod options;
pub mod pages;
mod request;
pub mod rpc;
mod setters;
mod stats;
mod swrk;
mod transport;
mod undo;
mod unknown;
mod version;

pub use child::SpawnError;
pub use client::{
    Call, Connection, Criu, Dumped, Features, GRACE, IgnoredHook, PageServerChild,
    PageServerStarted, PreDumped, Restored, UndumpableSocket,
};
pub use diagnosis::{CrErrno, Diagnosis, Evidence, KnownCause, Log, diagnose};
pub use error::Error;
pub use link::ProtocolError;
pub use notify::{Hook, HookError, HookResult, NoHooks, Notify};
pub use options::{OptionError, Options};
pub use pages::PagesError;
pub use request::Request;
pub use stasis_linux::file::Directory;
pub use stats::{DumpStats, Pages, RestoreStats, StatsError};
pub use transport::TransportError;
pub use undo::{Left, Leftover};
pub use unknown::{MalformedMessage, UnknownField, UnknownFields};
pub use version::Version;
