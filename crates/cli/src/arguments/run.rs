//! What is run.

use std::{ffi::OsString, path::PathBuf};

use clap::Args;

use super::{Streams, shared::PROCESSES};

/// `stasis run`.
#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    pub streams: Streams,

    /// Where it works [default: here]
    #[arg(long, help_heading = PROCESSES, value_name = "DIR")]
    pub chdir: Option<PathBuf>,

    /// The program
    #[arg(help_heading = None)]
    pub program: PathBuf,

    /// Its arguments
    #[arg(help_heading = None, trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<OsString>,
}
