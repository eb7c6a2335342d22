//! What the command says: results on standard output, as text or as one JSON object, and remarks
//! on standard error.
//!
//! Whoever reads may go at any time: that is no failure of what was done.

use std::{
    fmt::Display,
    io::{self, Write as _},
};

use anyhow::Context as _;
use log::{LevelFilter, Log, Metadata, Record};
use serde_json::Value;

/// How to say things.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
    quiet: bool,
}

impl Output {
    /// Results as JSON if `json`; only errors and what was asked for if `quiet`.
    pub fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet }
    }

    /// Is a result a JSON object?
    pub fn is_json(self) -> bool {
        self.json
    }

    /// May standard error show more than errors?
    pub fn is_quiet(self) -> bool {
        self.quiet
    }

    /// Says what was asked for.
    pub fn answer(self, text: impl Display, json: &Value) -> anyhow::Result<()> {
        if self.json { say(json) } else { say(text) }
    }

    /// Says what was done. As text it can be done without.
    pub fn report(self, text: impl Display, json: &Value) -> anyhow::Result<()> {
        if self.quiet && !self.json {
            return Ok(());
        }
        self.answer(text, json)
    }

    /// Says something by the way.
    pub fn remark(self, text: impl Display) {
        if !self.quiet {
            complain(text);
        }
    }

    /// Shows the warnings of the libraries, of which there are few.
    pub fn log_warnings(self) {
        if !self.quiet && log::set_logger(&Warnings).is_ok() {
            log::set_max_level(LevelFilter::Warn);
        }
    }
}

/// One line on standard error, whatever is in the text: CRIU's words may quote a file's name.
pub fn complain(text: impl Display) {
    // There is nowhere left to say that this cannot be said.
    let _ = writeln!(io::stderr(), "stasis: {}", one_line(&text.to_string()));
}

/// The text without anything that a terminal would act on.
pub fn one_line(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '\n' | '\t' => ' ',
            other if other.is_control() => char::REPLACEMENT_CHARACTER,
            other => other,
        })
        .collect()
}

fn say(text: impl Display) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// What `tracing` hands on to `log`.
struct Warnings;

impl Log for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= LevelFilter::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            complain(record.args());
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_would_act_on_is_said() {
        assert_eq!(one_line("a\nb\t\u{1b}[2Jc"), "a b \u{fffd}[2Jc");
    }
}
