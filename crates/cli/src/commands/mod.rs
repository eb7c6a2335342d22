//! The commands: a file for each.

mod criu;

use std::process::ExitCode;

use stasis_criu::Criu;

use crate::{
    arguments::{Arguments, Command},
    failure::{self, FAILED},
    output::Output,
    signals::Signals,
};

/// How a command ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It did what it was to do.
    Done,
}

impl Ended {
    fn code(self) -> ExitCode {
        match self {
            Self::Done => ExitCode::SUCCESS,
        }
    }
}

/// What every command has at hand.
pub struct Context<'a> {
    /// The CRIU that was chosen.
    pub criu: Criu,
    /// How to say things.
    pub output: &'a Output,
    /// Ctrl-C and its kin.
    pub signals: Signals,
}

/// Does what the arguments say.
pub async fn run(arguments: Arguments, output: &Output) -> ExitCode {
    let signals = match Signals::catch() {
        Ok(signals) => signals,
        Err(error) => return failure::failed(output, &error.into(), None, FAILED),
    };
    let mut context = Context {
        criu: Criu::with_binary(&arguments.criu),
        output,
        signals,
    };
    let done = match arguments.command {
        Command::Criu(question) => criu::run(&mut context, question).await,
    };
    match done {
        Ok(ended) => ended.code(),
        Err(error) => failure::failed(output, &error, context.signals.cancelled(), FAILED),
    }
}
