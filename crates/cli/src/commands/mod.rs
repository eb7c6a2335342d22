//! The commands: a file for each.

mod criu;
mod dump;
mod page_server;
mod pre_dump;
mod restore;
mod run;
mod target;

use std::process::ExitCode;

use stasis_criu::Criu;
use stasis_plain::Exit;

use crate::{
    arguments::{Arguments, Command},
    failure::{self, FAILED, FAILED_BESIDES},
    output::Output,
    signals::Signals,
};

/// How a command ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It did what it was to do.
    Done,
    /// The process that it waited for ended.
    With(Exit),
}

impl Ended {
    fn code(self) -> ExitCode {
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

/// Does what the arguments say.
pub async fn run(arguments: Arguments, output: &Output) -> ExitCode {
    let status = match &arguments.command {
        Command::Run(run) if !run.streams.detach => FAILED_BESIDES,
        Command::Restore(restore) if !restore.streams.detach => FAILED_BESIDES,
        _ => FAILED,
    };
    let signals = match Signals::catch() {
        Ok(signals) => signals,
        Err(error) => return failure::failed(output, &error.into(), None, status),
    };
    let mut context = Context {
        criu: Criu::with_binary(&arguments.criu),
        output,
        signals,
    };
    let done = match &arguments.command {
        Command::Criu(question) => criu::run(&mut context, *question).await,
        Command::Run(arguments) => run::run(&mut context, arguments).await,
        Command::Dump(arguments) => dump::run(&mut context, arguments).await,
        Command::PreDump(arguments) => pre_dump::run(&mut context, arguments).await,
        Command::Restore(arguments) => restore::run(&mut context, arguments).await,
        Command::PageServer(arguments) => page_server::run(&mut context, arguments).await,
    };
    // A call that was given up is brought to its end before this command ends with its thread.
    context.criu.idle().await;
    match done {
        Ok(ended) => ended.code(),
        Err(error) => failure::failed(output, &error, context.signals.cancelled(), status),
    }
}
