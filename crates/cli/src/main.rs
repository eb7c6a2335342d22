//! `stasis`: dumps and restores processes with CRIU, for people.
//!
//! `arguments` is what one can say, `commands` has one file for each verb. Beneath them: `signals`
//! turns Ctrl-C into a cancellation, `progress` shows how far a dump has come, `streams` connects
//! a process with the streams here and `drain` copies what it writes, `output` and `failure` say
//! what came of it. What a dump or a restore is, is the business of `stasis_criu`, and what
//! processes need for it that of `stasis_plain`; nothing here knows CRIU.

#![forbid(unsafe_code)]

mod arguments;
mod commands;
mod drain;
mod failure;
mod output;
mod progress;
mod signals;
mod streams;

use std::process::ExitCode;

use arguments::Arguments;
use output::Output;

fn main() -> ExitCode {
    let arguments = match Arguments::understand(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) => return failure::usage(&error),
    };
    let output = Output::new(arguments.json, arguments.quiet);
    output.log_warnings();
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failure::failed(&output, &error.into(), None, failure::FAILED),
    };
    let code = runtime.block_on(commands::run(arguments, &output));
    // A thread that waits for input is not waited for.
    runtime.shutdown_background();
    code
}
