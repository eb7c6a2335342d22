//! What the verbs Checkpoint and Create-from-a-checkpoint of a container need: options, plan,
//! directories. The verbs themselves are in `container/`.
//!
//! A container never dies of its own checkpoint. It is dumped as one that runs on, and ends
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

mod error;
mod image_dir;
mod options;
mod seal;
mod stopwatch;
mod work_dir;

pub use self::{
    error::{Error, Result},
    image_dir::ImageDir,
    options::{CheckpointRequest, Plan},
    seal::seal,
    stopwatch::Stopwatch,
    work_dir::WorkDir,
};
