//! What can go wrong with processes before a dump and after a restore.

use std::{io, path::PathBuf};

use stasis_linux::procfs;
use thiserror::Error;

/// A process could not be looked at, started, waited for, or made ready for a dump or a restore.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// There is no such process, or not any more: its number may be another's by now.
    #[error("process {pid} is gone")]
    Gone {
        /// Which process.
        pid: u32,
    },
    /// What `/proc` says of it, or of the machine, could not be had.
    #[error(transparent)]
    Read(procfs::Error),
    /// A program could not be started.
    #[error("cannot start {program}")]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A standard stream could not be made.
    #[error("cannot make {what} a standard stream")]
    Stream {
        /// A path, or what it is.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// A process could not be held, signalled or waited for.
    #[error("cannot {step} process {pid}")]
    Hold {
        /// What was tried.
        step: &'static str,
        /// Which process.
        pid: u32,
        /// Why.
        source: io::Error,
    },
    /// A file could not be written or read: a pid file, a process state, a file to inherit.
    #[error("cannot {step} {path}")]
    File {
        /// What was tried.
        step: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A process uses io_uring, which CRIU cannot dump.
    #[error(
        "process {pid} uses io_uring ({}), which CRIU cannot dump: turn it off in the program, or \
         for the machine with the sysctl kernel.io_uring_disabled=2 before the program starts",
        fd.map_or_else(|| String::from("mapped"), |fd| format!("descriptor {fd}"))
    )]
    IoUring {
        /// Which process.
        pid: u32,
        /// The descriptor of the ring, unless only its memory is still mapped.
        fd: Option<u32>,
    },
    /// A terminal cannot be taken along or brought back.
    #[error("terminal {path}: {why}")]
    Terminal {
        /// The terminal, as the processes know it.
        path: PathBuf,
        /// Why, and what to do.
        why: &'static str,
    },
    /// A standard stream cannot come back as what was asked for.
    #[error("descriptor {fd} was {was}: {why}")]
    Stdio {
        /// Which of 0, 1 and 2.
        fd: u32,
        /// What it was when it was dumped.
        was: PathBuf,
        /// Why, and what to do.
        why: &'static str,
    },
}

impl From<procfs::Error> for ProcessError {
    fn from(error: procfs::Error) -> Self {
        match error {
            procfs::Error::Gone { pid } => Self::Gone { pid },
            error => Self::Read(error),
        }
    }
}
