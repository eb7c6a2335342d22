//! The command line of one call, and what becomes of it.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    log,
    process::{self, Ended, Failure, Streams},
};
use crate::{
    calls::Stdio,
    children::Children,
    error::{Error, Result},
    identity::Identity,
    settings::Timeouts,
};

/// How often a call is tried whose failures are [`Runtime::passing`].
pub(super) const TRIES: usize = 5;

/// How much of a message from outside goes into an error.
const MESSAGE_CAP: usize = 2000;

/// A runtime's binary with what every call of it has in common.
#[derive(Debug, Clone)]
pub(crate) struct Runtime {
    pub(crate) identity: Identity,
    /// The options before the verb. They include `--log`.
    pub(crate) globals: Vec<OsString>,
    /// The file that `--log` names.
    pub(crate) log: PathBuf,
    /// Whether a call that failed with this message did nothing, and may well succeed when it is
    /// tried again.
    pub(crate) passing: fn(&str) -> bool,
    pub(crate) timeouts: Timeouts,
    pub(crate) children: Children,
}

impl Runtime {
    /// Begins the command line of `verb`.
    pub(crate) fn call(&self, verb: &'static str, deadline: Option<Duration>) -> Invocation<'_> {
        Invocation {
            runtime: self,
            verb,
            globals: Vec::new(),
            arguments: Vec::new(),
            streams: Streams::Collected,
            deadline,
            given_up: None,
        }
    }
}

/// The command line of one call, to be [`run`](Invocation::run).
#[must_use = "it does nothing until it is run"]
#[derive(Debug)]
pub(crate) struct Invocation<'a> {
    runtime: &'a Runtime,
    verb: &'static str,
    globals: Vec<OsString>,
    arguments: Vec<OsString>,
    streams: Streams,
    deadline: Option<Duration>,
    given_up: Option<oneshot::Receiver<()>>,
}

impl Invocation<'_> {
    pub(crate) fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// A flag, if `given`.
    pub(crate) fn flag(self, name: &str, given: bool) -> Self {
        if given { self.arg(name) } else { self }
    }

    /// A flag with its value as the next argument.
    pub(crate) fn option(self, name: &str, value: impl Into<OsString>) -> Self {
        self.arg(name).arg(value)
    }

    /// An option of the runtime itself, before the verb, for this call only.
    pub(crate) fn global(mut self, option: impl Into<OsString>) -> Self {
        self.globals.push(option.into());
        self
    }

    /// Hands these streams to the runtime, so that nothing is collected.
    pub(crate) fn stdio(mut self, stdio: Stdio) -> Self {
        self.streams = Streams::Handed(stdio);
        self
    }

    /// Lets it be given up, which kills the runtime.
    pub(crate) fn given_up_by(mut self, given_up: Option<oneshot::Receiver<()>>) -> Self {
        self.given_up = given_up;
        self
    }

    /// Runs it, and gives what it printed, or nothing where the streams were handed over.
    pub(crate) async fn run(mut self) -> Result<Vec<u8>> {
        for _ in 1..TRIES {
            let Some(again) = self.again() else {
                break;
            };
            let Runtime {
                identity, passing, ..
            } = self.runtime;
            let verb = self.verb;
            match self.run_once().await {
                Err(Error::Failed { message, .. }) if passing(&message) => {
                    tracing::debug!("{} {verb} again: {message}", identity.kind);
                }
                result => return result,
            }
            self = again;
        }
        self.run_once().await
    }

    /// The same call once more. Streams that are handed over are gone after the first.
    fn again(&self) -> Option<Self> {
        let streams = match self.streams {
            Streams::Collected => Streams::Collected,
            Streams::Handed(_) => return None,
        };
        Some(Self {
            globals: self.globals.clone(),
            arguments: self.arguments.clone(),
            streams,
            // No call that can be given up is made again.
            given_up: None,
            ..*self
        })
    }

    async fn run_once(self) -> Result<Vec<u8>> {
        let mut command = tokio::process::Command::new(&self.runtime.identity.binary);
        command
            .args(&self.runtime.globals)
            .args(&self.globals)
            .arg(self.verb)
            .args(&self.arguments);
        let mark = log::Mark::set(self.runtime.log.clone());
        tracing::debug!(engine = %self.runtime.identity.kind, arguments = ?self.arguments, "{}", self.verb);
        let engine = self.runtime.identity.kind;
        let verb = self.verb;
        let enough = async {
            tokio::select! {
                after = process::passed(self.deadline) => Error::Deadline { engine, verb, after },
                () = process::given_up(self.given_up) => Error::Failed {
                    engine,
                    verb,
                    message: "it was given up, and killed".to_owned(),
                },
            }
        };
        let ended = process::run(command, &self.runtime.children, self.streams, enough).await;
        match ended {
            Ok(ended) if ended.status.success() => Ok(ended.stdout),
            Ok(ended) => {
                let message = mark.last_error().unwrap_or_else(|| reason(&ended));
                Err(Error::Failed {
                    engine,
                    verb,
                    message: shortened(&message),
                })
            }
            Err(Failure::Enough(why)) => Err(why),
            Err(Failure::Spawn(source)) => Err(Error::run(
                self.runtime.identity.binary.display().to_string(),
            )(source)),
        }
    }
}

/// Runs a program that is not known as a runtime yet, for what it prints. An error names it as
/// `name`.
pub(crate) async fn output(
    name: &str,
    program: &Path,
    argument: &str,
    children: &Children,
    deadline: Duration,
) -> Result<String> {
    let mut command = tokio::process::Command::new(program);
    command.arg(argument);
    let enough = process::passed(Some(deadline));
    match process::run(command, children, Streams::Collected, enough).await {
        Ok(ended) => Ok(String::from_utf8_lossy(&ended.stdout).into_owned()),
        Err(Failure::Spawn(source)) => Err(Error::run(name)(source)),
        Err(Failure::Enough(after)) => Err(Error::Binary {
            binary: name.to_owned(),
            source: io::Error::new(
                io::ErrorKind::TimedOut,
                format!("`{argument}` did not end within {after:?}"),
            ),
        }),
    }
}

/// Why a runtime failed that logged nothing: its last words.
fn reason(ended: &Ended) -> String {
    let stderr = String::from_utf8_lossy(&ended.stderr);
    let last = stderr
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty());
    last.map_or_else(|| silent(ended.status), str::to_owned)
}

fn silent(status: ExitStatus) -> String {
    format!("it ended without a reason ({status})")
}

/// The beginning of the first line of `text`, for an error message: runsc logs the stacks of its
/// panics as one entry.
pub(crate) fn shortened(text: &str) -> String {
    let text = text.trim().lines().next().unwrap_or_default();
    let end = text.char_indices().map(|(at, _)| at).nth(MESSAGE_CAP);
    end.map_or_else(|| text.to_owned(), |end| format!("{}…", &text[..end]))
}
