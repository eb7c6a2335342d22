//! The commands: a file for each.

mod context;
mod criu;
mod dump;
mod page_server;
mod pre_dump;
mod restore;
mod run;
mod target;

use std::process::ExitCode;

use stasis_criu::Criu;

pub use self::context::{Context, Ended};
use crate::{
    arguments::{Arguments, Command},
    failure::{self, FAILED, FAILED_BESIDES},
    output::Output,
    signals::Signals,
};

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
