//! Running a program so that it can be dumped later.
//!
//! CRIU dumps a tree as it stands, so what the program is given at its start decides whether it
//! can be dumped: a session of its own (else its leader is outside the tree), streams that can be
//! brought back, and not one descriptor by mistake, since each is a file, a socket or a lock of
//! ours in its image.

use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
    process::Command,
};

use super::{Managed, ProcessError, Stdio, adapters::write_pid_file};
use stasis_linux::sys;

/// How to run a program: what, where, with which streams.
///
/// It gets a session of its own, no signal blocked and none ignored, its standard streams and no
/// other descriptor.
///
/// ```
/// use stasis_plain::{Run, Stdio};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let directory = tempfile::tempdir().unwrap();
/// # let (log, pid_file) = (directory.path().join("log"), directory.path().join("pid"));
/// let process = Run::new("sh")
///     .args(["-c", "echo $GREETING; pwd"])
///     .env("GREETING", "hello")
///     .current_dir("/")
///     .stdio(Stdio::Log(log.clone()))
///     .pid_file(&pid_file)
///     .start()?;
/// assert!(process.exited().await?.is_success());
/// assert_eq!(std::fs::read_to_string(log).unwrap(), "hello\n/\n");
/// assert_eq!(std::fs::read_to_string(pid_file).unwrap(), process.pid().to_string());
/// # Ok::<(), stasis_plain::ProcessError>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct Run {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    clear: bool,
    directory: Option<PathBuf>,
    stdio: Stdio,
    pid_file: Option<PathBuf>,
}

impl Run {
    /// A program: a path, or a name to be found in `PATH`.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            clear: false,
            directory: None,
            stdio: Stdio::Null,
            pid_file: None,
        }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// A variable of its environment, besides ours.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let (name, value) = (name.as_ref().to_owned(), value.as_ref().to_owned());
        self.environment.push((name, value));
        self
    }

    /// None of our environment.
    #[must_use]
    pub fn env_clear(mut self) -> Self {
        self.clear = true;
        self
    }

    /// Where it works; where we do, without this.
    #[must_use]
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Its standard streams; `/dev/null`, without this.
    #[must_use]
    pub fn stdio(mut self, stdio: Stdio) -> Self {
        self.stdio = stdio;
        self
    }

    /// A file that its number is written to.
    #[must_use]
    pub fn pid_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.pid_file = Some(file.into());
        self
    }

    /// Starts it. If it cannot be managed, or its pid file cannot be written, it is ended again.
    ///
    /// # Errors
    /// If the program cannot be started or managed, or its streams or its pid file cannot be made.
    pub fn start(&self) -> Result<Managed, ProcessError> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        if self.clear {
            command.env_clear();
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        let attached = self.stdio.give(&mut command)?;
        sys::new_session(&mut command, self.stdio.is_terminal());
        sys::default_signals(&mut command);
        sys::inherit_only(&mut command, Vec::new());
        let child = command.spawn().map_err(|source| ProcessError::Start {
            program: self.program.clone(),
            source,
        })?;
        // A `Child` that is dropped is neither killed nor reaped: from here on it is ours alone.
        match self.manage(child.id()) {
            Ok(process) => Ok(process.attach(attached)),
            Err(error) => {
                abandon(child);
                Err(error)
            }
        }
    }

    /// Takes hold of what was started, and tells its number.
    fn manage(&self, pid: u32) -> Result<Managed, ProcessError> {
        let process = Managed::of_child(pid)?;
        if let Some(file) = &self.pid_file {
            write_pid_file(file, pid)?;
        }
        Ok(process)
    }
}

/// Ends and reaps a child that nobody will manage.
fn abandon(mut child: std::process::Child) {
    // It has ended already, or does now: there is nothing to add to the error that led here.
    let _ = child.kill();
    let _ = child.wait();
}
