//! Processes, before a dump and after a restore.
//!
//! [`Run`] starts a program so that it can be dumped, [`Managed::take_over`] takes over one that
//! runs already, and a restored one. [`Tree`] is what there is to be dumped; a [`DumpPlan`] is what
//! CRIU has to be told because of it, a [`RestorePlan`] what it has to be told to bring it back,
//! and [`ProcessState`] is what links the two, in a file beside the images. The plans are made of
//! the adapters in [`adapters`], each of which can be used alone.
//!
//! Nothing here speaks to CRIU. What is read of `/proc` is in `stasis_linux::procfs`.
//!
//! ```no_run
//! use stasis_criu::{Options, process::{DumpPlan, ProcessState, RestorePlan, RestoreStdio}};
//!
//! # fn dump(options: Options) {}
//! # fn restore(options: Options) -> u32 { 0 }
//! let images = std::path::Path::new("/var/lib/images/1");
//! let plan = DumpPlan::detect(4711)?;
//! plan.state().save(images)?;
//! dump(plan.apply(Options::new(images)));
//!
//! let state = ProcessState::reload(images)?;
//! let plan = RestorePlan::new(&state, RestoreStdio::Keep)?;
//! let pid = restore(plan.apply(Options::new(images)));
//! let process = plan.take_over(pid)?;
//! # Ok::<(), stasis_criu::process::ProcessError>(())
//! ```

pub mod adapters;
mod error;
mod exit;
mod manage;
mod plan;
mod run;
mod state;
mod stdio;
mod tree;
mod unix_peers;

pub use error::ProcessError;
pub use exit::Exit;
pub use manage::{Managed, State};
pub use plan::{DumpPlan, RestorePlan};
pub use run::Run;
pub use stasis_linux::{
    mountinfo::Mount,
    procfs::{Family, FileKind, Ids, InternetSocket, OpenFile, SocketType, TcpState, UnixSocket},
};
pub use state::{
    Address, Choices, ConnectionState, Cpu, FILE_NAME, FileState, Host, Memory, MountState,
    ProcessState,
};
pub use stdio::{Attached, RestoreStdio, Size, Stdio};
pub use tree::{Namespaces, Process, TaskState, Tree};
