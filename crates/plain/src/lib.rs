//! Plain processes: those that are in no container, before a dump and after a restore.
//!
//! [`Run`] starts a program so that it can be dumped, [`Managed::take_over`] takes over one that
//! runs already, and a restored one. [`Tree`] is what there is to be dumped; a [`DumpPlan`] is what
//! CRIU has to be told because of it, a [`RestorePlan`] what it has to be told to bring it back,
//! and [`ProcessState`] is what links the two, in a file beside the images. The plans are made of
//! the adapters in [`adapters`], each of which can be used alone.
//!
//! Nothing here speaks to CRIU: plans set options, which `stasis_criu` takes. What is read of
//! `/proc` is in `stasis_linux::procfs`.
//!
//! ```no_run
//! use std::{path::Path, time::Duration};
//!
//! use stasis_criu::{Criu, Options};
//! use stasis_plain::{DumpPlan, ProcessState, RestorePlan, RestoreStdio};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let criu = Criu::new();
//! let images = Path::new("/var/lib/images/1");
//!
//! // What cannot be dumped is refused here, before anything is frozen.
//! let plan = DumpPlan::detect(4711)?;
//! plan.state().save(images)?;
//! let options = plan.apply(Options::new(images));
//! criu.dump(&options).within(Duration::from_secs(30)).await?;
//! plan.gone().await?;
//!
//! // Back again, here or on another machine.
//! let plan = RestorePlan::new(&ProcessState::reload(images)?, RestoreStdio::Keep)?;
//! let restored = criu.restore(&plan.apply(Options::new(images))).await?;
//! let process = plan.take_over(restored.pid.as_raw_pid().cast_unsigned())?;
//! println!("{:?}", process.exited().await?);
//! # Ok(())
//! # }
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
pub use manage::{Liveness, Managed};
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
