//! How the command fails: one line, a kind for programs, and an exit status.

use std::{fmt, process::ExitCode};

use serde_json::json;
use stasis_criu::{Error, pages::PagesError};
use stasis_plain::ProcessError;

use crate::{
    output::{Output, complain, one_line},
    signals::{Interrupted, Signal},
};

/// The exit status of a command that failed.
pub const FAILED: u8 = 1;
/// The exit status of a command that failed where its own is that of a process.
pub const FAILED_BESIDES: u8 = 125;
/// The exit status of a command that was not understood.
const USAGE: u8 = 2;
/// What the shell adds to the number of a signal.
const SIGNALLED: u8 = 128;

/// What became of the processes, besides the error. It is the context of an error.
#[derive(Debug)]
pub struct Fate(pub String);

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A failure of the command's own.
#[derive(Debug)]
pub struct Failure {
    kind: &'static str,
    message: String,
}

impl Failure {
    /// It cannot be done as it was asked for.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(UNAVAILABLE, message)
    }

    /// It was not over in time.
    pub fn deadline(message: impl Into<String>) -> Self {
        Self::new(DEADLINE, message)
    }

    fn new(kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Says why it failed, and with which status to exit: `status`, unless `cancelled` did it.
pub fn failed(
    output: &Output,
    error: &anyhow::Error,
    cancelled: Option<Signal>,
    status: u8,
) -> ExitCode {
    let kind = kind(error);
    say(output.is_json(), &line(error), kind);
    match (kind, cancelled) {
        (CANCELLED, Some(signal)) => ExitCode::from(SIGNALLED.saturating_add(signal.number())),
        _ => ExitCode::from(status),
    }
}

/// Says what is wrong with the arguments; or helps, if that was asked for.
pub fn usage(error: &clap::Error) -> ExitCode {
    // Nobody may be reading.
    let _ = error.print();
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    // There are no arguments to ask yet.
    let mut own = std::env::args_os().take_while(|argument| argument != "--");
    if own.any(|argument| argument == "--json") {
        print(&what_is_wrong(&error.to_string()), "usage");
    }
    ExitCode::from(USAGE)
}

/// The first paragraph of what clap says, as one line.
fn what_is_wrong(said: &str) -> String {
    let said = said.strip_prefix("error: ").unwrap_or(said);
    let lines = said.lines().map(str::trim);
    let lines: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
    lines.join(" ")
}

/// The error, what it comes from, and what became of the processes.
fn line(error: &anyhow::Error) -> String {
    let fate = error.downcast_ref::<Fate>();
    let mut causes = error.chain().skip(usize::from(fate.is_some()));
    let mut line = causes.next().map(stasis_linux::chain).unwrap_or_default();
    if let Some(fate) = fate {
        line.push_str("; ");
        line.push_str(&fate.0);
    }
    line
}

fn say(json: bool, line: &str, kind: &str) {
    if json {
        print(line, kind);
    }
    complain(line);
}

fn print(message: &str, kind: &str) {
    use std::io::Write as _;

    let object = json!({ "error": one_line(message), "kind": kind });
    // The exit status says it too.
    let _ = writeln!(std::io::stdout(), "{object}");
}

const CANCELLED: &str = "cancelled";
const DEADLINE: &str = "deadline";
const PAGES: &str = "pages";
const UNAVAILABLE: &str = "unavailable";

/// What a program goes by. All of them are in the README.
fn kind(error: &anyhow::Error) -> &'static str {
    error
        .chain()
        .find_map(|cause| {
            cause
                .downcast_ref::<Error>()
                .map(kind_of_call)
                .or_else(|| cause.downcast_ref::<ProcessError>().map(kind_of_process))
                .or_else(|| cause.downcast_ref::<Interrupted>().map(|_| CANCELLED))
                .or_else(|| cause.downcast_ref::<Failure>().map(|failure| failure.kind))
                .or_else(|| cause.downcast_ref::<PagesError>().map(|_| PAGES))
        })
        .unwrap_or("other")
}

fn kind_of_call(error: &Error) -> &'static str {
    match error {
        Error::Options(_) => "options",
        Error::Start { .. } => "start",
        Error::Prepare { .. } => "prepare",
        Error::Pages { .. } => PAGES,
        Error::Failed { .. } => "failed",
        Error::NoReply { .. } => "no-reply",
        Error::Protocol { .. } => "protocol",
        // A hook is ours, and knows better what went wrong.
        Error::Hook { source, .. } => source
            .downcast_ref::<ProcessError>()
            .map_or("hook", kind_of_process),
        Error::Cancelled { .. } => CANCELLED,
        Error::Deadline { .. } => DEADLINE,
        Error::Closed { .. } => "closed",
        Error::Processes { .. } | Error::Unavailable { .. } => UNAVAILABLE,
    }
}

fn kind_of_process(error: &ProcessError) -> &'static str {
    match error {
        ProcessError::Gone { .. } => "gone",
        ProcessError::IoUring { .. }
        | ProcessError::Terminal { .. }
        | ProcessError::Stdio { .. } => UNAVAILABLE,
        ProcessError::Start { .. } => "start",
        // The enumeration is open: what it gets besides is about processes too.
        _ => "process",
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn a_line_has_the_whole_chain_and_ends_with_the_fate() {
        let error = anyhow!("no such file")
            .context("cannot open it")
            .context(Fate(String::from("process 7 runs on as before")));
        assert_eq!(
            line(&error),
            "cannot open it: no such file; process 7 runs on as before"
        );
    }

    #[test]
    fn what_is_wrong_with_arguments_is_one_line() {
        let said = "error: these are missing:\n  --tree <PID>\n  --images-dir <DIR>\n\nUsage: x\n";
        assert_eq!(
            what_is_wrong(said),
            "these are missing: --tree <PID> --images-dir <DIR>"
        );
    }

    #[test]
    fn a_kind_is_found_beneath_contexts() {
        let gone = ProcessError::Gone { pid: 7 };
        let error: anyhow::Result<()> = Err(gone.into());
        let error = error.context("x").context(Fate(String::new()));
        assert_eq!(kind(&error.unwrap_err()), "gone");
        assert_eq!(kind(&anyhow!("something")), "other");
    }
}
