//! One more process in a running container.
//!
//! Its exit is the exit of the process on the host that the engine names: with runsc the resident
//! `runsc exec` helper, which exits as the process in the sandbox does. Its files in the bundle
//! are numbered, since its id is the client's and may be no file name, and are removed as soon as
//! the runtime has read them.

mod files;
mod handle;
mod state;

pub use handle::{Exec, ExecConfig};
