//! The routes that Checkpoint and Restore take: options, preflight, engine, seal.
//!
//! A container never dies of its own checkpoint. It is captured as one that runs on, and ends
//! only when its image is whole and sealed; a checkpoint that fails leaves it in the state in
//! which it came, removes what it wrote, and keeps CRIU's log. Where CRIU itself has to end it,
//! with the dump, the image is kept whatever fails afterwards.
//!
//! ```text
//! Checkpoint:  options → preflight → freeze (if it is to end) → dump → seal → end | thaw
//! Create:      image checked, options read back from it, nothing runs
//! Start:       restore
//! ```
//!
//! How an engine dumps is its own affair (`stasis-engine`); what an image needs to be whole is
//! `stasis_engine::manifest`'s.

mod capture;
mod error;
mod image_dir;
mod options;
mod restore;
mod stopwatch;
mod work;

pub use self::{
    capture::capture,
    error::{Error, Result},
    restore::plan as plan_restore,
};
