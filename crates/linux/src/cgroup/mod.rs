//! Cgroups of both versions: which a process is in, who is in one, freezing, thawing and killing
//! them.
//!
//! A process tells its cgroups in `/proc/PID/cgroup`, as paths from the root of the reader's
//! cgroup namespace; where each hierarchy is mounted is in mountinfo, whose root field is such a
//! path too, and not always `/` (cgroups(7), cgroup_namespaces(7)).

mod error;
mod freezer;
mod hierarchy;
mod members;
#[cfg(test)]
mod tests;

pub use error::CgroupError;
pub use freezer::Freezer;
pub use hierarchy::{Hierarchy, Switch, hierarchies};
pub use members::{kill, processes};
