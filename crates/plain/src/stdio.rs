//! The standard streams of a process that is to be dumped.
//!
//! What a stream is decides what becomes of it: a file is opened again by its path; a pipe whose
//! other end is ours is external to the tree, and CRIU is given a new one for it on restore, by
//! its inode; and of a terminal whose master is ours, CRIU makes a new one and gives us its master.

use std::{
    fs::{File, OpenOptions},
    io::{self, PipeReader, PipeWriter, pipe},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    process::{self, Command},
};

use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use stasis_criu::options::Descriptor;

use super::ProcessError;

/// What the standard streams of a process are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Stdio {
    /// `/dev/null`, all three.
    #[default]
    Null,
    /// Output and errors go to the end of a file; there is no input.
    Log(PathBuf),
    /// Three pipes, of which we have the other ends: [`Attached::Pipes`].
    Pipes,
    /// A terminal, of which we have the master: [`Attached::Terminal`].
    Terminal {
        /// How many lines and columns it has at first.
        size: Size,
    },
}

/// What becomes of the standard streams of a tree that is restored.
#[derive(Debug, Default)]
pub enum RestoreStdio {
    /// What they were: files and devices are opened again by their paths, and what was a pipe to
    /// outside becomes `/dev/null`.
    #[default]
    Keep,
    /// Output and errors that were files go to the end of this one.
    Log(PathBuf),
    /// Pipes of which we have the other ends, or a new terminal of which we have the master.
    Attach,
    /// These, in place of input, output and errors: of a command that a person runs, its own.
    Given([Descriptor; 3]),
}

/// The size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            rows: 24,
            columns: 80,
        }
    }
}

/// Our ends of the standard streams of a process. It meets the end of its input, or SIGPIPE, or a
/// hang-up, when they are dropped.
#[derive(Debug)]
#[non_exhaustive]
pub enum Attached {
    /// A pipe for each stream that has one.
    Pipes {
        /// What we write, it reads.
        stdin: Option<PipeWriter>,
        /// What it writes.
        stdout: Option<PipeReader>,
        /// What it writes of errors.
        stderr: Option<PipeReader>,
    },
    /// The master side of its terminal.
    Terminal(OwnedFd),
}

impl Stdio {
    /// Gives `command` such streams. What is returned holds our ends of them, and keeps what the
    /// command inherits open until it was started.
    pub(super) fn give(&self, command: &mut Command) -> Result<Option<Attached>, ProcessError> {
        match self {
            Self::Null => {
                let null = process::Stdio::null;
                command.stdin(null()).stdout(null()).stderr(null());
                Ok(None)
            }
            Self::Log(path) => {
                let output = open_log(path)?;
                let errors = output
                    .try_clone()
                    .map_err(|source| failed(&path.display(), source))?;
                command.stdin(process::Stdio::null());
                command.stdout(output).stderr(errors);
                Ok(None)
            }
            Self::Pipes => {
                let pipe = || pipe().map_err(|source| failed("a pipe", source));
                let (theirs, stdin) = pipe()?;
                command.stdin(theirs);
                let (stdout, theirs) = pipe()?;
                command.stdout(theirs);
                let (stderr, theirs) = pipe()?;
                command.stderr(theirs);
                Ok(Some(Attached::Pipes {
                    stdin: Some(stdin),
                    stdout: Some(stdout),
                    stderr: Some(stderr),
                }))
            }
            Self::Terminal { size } => {
                let (master, slave) =
                    open_terminal(*size).map_err(|source| failed("a terminal", source))?;
                let again = || {
                    slave
                        .try_clone()
                        .map_err(|source| failed("a terminal", source))
                };
                command.stdin(again()?).stdout(again()?).stderr(again()?);
                Ok(Some(Attached::Terminal(master)))
            }
        }
    }

    /// Does it want to be the controlling terminal of the process's session?
    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal { .. })
    }
}

/// Opens a file to write to its end, made if there is none, for its owner only.
pub(super) fn open_log(path: &Path) -> Result<File, ProcessError> {
    use std::os::unix::fs::OpenOptionsExt as _;

    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(|source| failed(&path.display(), source))
}

/// Makes a terminal: its master and its other side. Neither becomes ours.
pub(super) fn open_terminal(size: Size) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let slave = rustix::fs::open(name.as_c_str(), flags, Mode::empty())?;
    tcsetwinsize(
        slave.as_fd(),
        Winsize {
            ws_row: size.rows,
            ws_col: size.columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        },
    )?;
    Ok((master, slave))
}

fn failed(what: &(impl ToString + ?Sized), source: io::Error) -> ProcessError {
    ProcessError::Stream {
        what: what.to_string(),
        source,
    }
}
