//! What has to be told CRIU because of what a tree is like: one adapter for each matter.
//!
//! Each looks at a [`Tree`](super::Tree) or at a [`ProcessState`](super::ProcessState) and says
//! what it found; what it found is then set in [`Options`](stasis_criu::Options). [`DumpPlan`] and
//! [`RestorePlan`] use all of them.
//!
//! | adapter | for | detects | sets |
//! |---|---|---|---|
//! | [`refuse_io_uring`] | dump | rings, open or mapped | nothing: an error |
//! | [`Terminals`] | both | terminals whose master is outside the tree | `shell_job`, `orphan_pts_master`, `external tty[..]` |
//! | [`external_files()`] | dump | files over mounts that the tree does not see | `external file[..]` |
//! | [`Sockets`] | both | connections of TCP; Unix sockets connected to outside | `tcp_established`, `ext_unix_sk`, `external unix[..]` |
//! | [`has_external_mounts`] | both | a mount namespace that is not CRIU's | `external mnt[]`, `ext_masters` |
//! | [`Inheritance`] | restore | standard streams, terminals, external files | `inherit_fd` |
//! | [`close_common_files`] | before a dump | descriptors of ours for files of the tree | nothing: it closes them |
//! | [`write_pid_file`] | after run and restore | – | a file |
//!
//! The PID is set by the plan, since it needs no looking.
//!
//! [`DumpPlan`]: super::DumpPlan
//! [`RestorePlan`]: super::RestorePlan

mod common_files;
mod external_files;
mod inherit;
mod io_uring;
mod mounts;
mod pid_file;
mod sockets;
mod terminals;

pub use common_files::close_common_files;
pub use external_files::external_files;
pub use inherit::{Inheritance, Missing};
pub use io_uring::refuse_io_uring;
pub use mounts::{external_mounts, has_external_mounts};
pub use pid_file::write_pid_file;
pub use sockets::Sockets;
pub use terminals::Terminals;
