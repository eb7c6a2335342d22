//! What all commands have at hand, and how each of them ends.

use std::process::ExitCode;

use stasis_criu::Criu;
use stasis_plain::Exit;

use crate::{failure::FAILED_BESIDES, output::Output, signals::Signals};

/// How a command ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It did what it was to do.
    Done,
    /// The process that it waited for ended.
    With(Exit),
}

impl Ended {
    /// The exit status that says so.
    pub(super) fn code(self) -> ExitCode {
        match self {
            Self::Done => ExitCode::SUCCESS,
            Self::With(exit) => {
                let status = exit.shell_status();
                let status = status.and_then(|status| u8::try_from(status).ok());
                ExitCode::from(status.unwrap_or(FAILED_BESIDES))
            }
        }
    }
}

/// What every command has at hand.
#[derive(Debug)]
pub struct Context<'a> {
    /// The CRIU that was chosen.
    pub criu: Criu,
    /// How to say things.
    pub output: &'a Output,
    /// Ctrl-C and its kin.
    pub signals: Signals,
}
