//! What one can say to `stasis`. Options have the names that they have in CRIU or, where CRIU has
//! none, in runc.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Dumps running processes into files with CRIU, and brings them back.
#[derive(Debug, Parser)]
#[command(name = "stasis", version, after_help = EXIT_STATUS)]
pub struct Arguments {
    /// The binary of CRIU: a path, or a name to be found in PATH
    #[arg(long, global = true, value_name = "PATH", default_value = "criu")]
    pub criu: PathBuf,

    /// Print the result, or the error, as one JSON object
    #[arg(long, global = true)]
    pub json: bool,

    /// Print errors and what was asked for, nothing else
    #[arg(short, long, global = true)]
    pub quiet: bool,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_STATUS: &str = "\
Exit status:
  0    done
  1    failed; the processes run on as before unless the error says otherwise
  2    the arguments were not understood
  129, 130, 131, 143
       cancelled by SIGHUP, SIGINT (Ctrl-C), SIGQUIT or SIGTERM";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ask about CRIU itself
    #[command(subcommand)]
    Criu(Criu),
}

/// What to ask of CRIU.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum Criu {
    /// Which release is it?
    Version,
    /// Can it work on this machine?
    Check,
    /// What does the kernel offer to it?
    Features,
}
