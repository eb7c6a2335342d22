//! What one can say to `stasis`. Options have the names that they have in CRIU or, where CRIU has
//! none, in runc.
//!
//! A command's own arguments are in a file of its name; `shared` has those that several take.

mod dump;
mod page_server;
mod restore;
mod run;
mod shared;
#[cfg(test)]
mod tests;

use std::{ffi::OsString, path::PathBuf};

use clap::{CommandFactory as _, Parser, Subcommand, error::ErrorKind};

pub use dump::{Dump, PreDump};
pub use page_server::PageServer;
pub use restore::Restore;
pub use run::Run;
pub use shared::{Images, Streams};

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

impl Arguments {
    /// Understands `words`, of which the first is the name of the command.
    pub fn understand<W>(words: impl IntoIterator<Item = W>) -> Result<Self, clap::Error>
    where
        W: Into<OsString> + Clone,
    {
        let arguments = Self::try_parse_from(words)?;
        let streams = match &arguments.command {
            Command::Run(run) => Some(&run.streams),
            Command::Restore(restore) => Some(&restore.streams),
            Command::Criu(_) | Command::Dump(_) | Command::PreDump(_) | Command::PageServer(_) => {
                None
            }
        };
        if arguments.json && streams.is_some_and(|streams| streams.attach) {
            let why = "--json and --attach both want the standard output";
            return Err(Self::command().error(ErrorKind::ArgumentConflict, why));
        }
        Ok(arguments)
    }
}

const EXIT_STATUS: &str = "\
Exit status:
  0    done
  1    failed; the processes run on as before unless the error says otherwise
  2    the arguments were not understood
  129, 130, 131, 143
       cancelled by SIGHUP, SIGINT (Ctrl-C), SIGQUIT or SIGTERM

`run` and `restore`, unless detached, exit with the status of the process, or 128 and the number
of the signal that ended it, and with 125 if they failed themselves.";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ask about CRIU itself
    #[command(subcommand)]
    Criu(Criu),
    /// Run a program so that it can be dumped: in a session and with streams of its own
    Run(Run),
    /// Dump a process and all that descend from it; they end, unless told otherwise
    Dump(Box<Dump>),
    /// Dump memory ahead of a dump, which is then shorter
    PreDump(Box<PreDump>),
    /// Bring dumped processes back
    Restore(Box<Restore>),
    /// Take the pages of one dump that is made elsewhere
    PageServer(PageServer),
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
