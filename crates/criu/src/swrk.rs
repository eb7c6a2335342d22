//! `criu swrk`: a CRIU of our own for one connection.
//!
//! It inherits its end of the socket and what the caller names, and nothing else.

use std::{
    ffi::OsString,
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    sync::Arc,
};

use rustix::process::{Pid, Resource, Rlimit};
use stasis_linux::{Pidfd, pidfd::descend, sys};

use crate::{
    child::{Child, SpawnError, cannot},
    transport::MessageSocket,
};

/// How to start `criu swrk`.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// The binary: a path, or a name to be found in `PATH`.
    pub binary: PathBuf,
    /// Set in its environment, besides ours.
    pub environment: Vec<(OsString, OsString)>,
    /// What it inherits besides its socket.
    pub inherited: Vec<Arc<OwnedFd>>,
    /// Its standard input, `/dev/null` if none. A shell job is restored only where it is the
    /// terminal.
    pub stdin: Option<Arc<OwnedFd>>,
    /// Whether it is in the caller's process group, which a shell job is restored into. In one of
    /// its own, Ctrl-C on the caller's terminal does not kill it in the middle of a dump.
    pub callers_group: bool,
}

/// A running `criu swrk`. Dropping it kills it, and waits for it.
#[derive(Debug)]
pub(crate) struct Swrk(Child);

impl Swrk {
    /// Starts it, in the runtime of the caller, and the connection to it.
    pub fn spawn(program: &Program) -> Result<(Self, MessageSocket), SpawnError> {
        let (ours, theirs) = MessageSocket::pair()?;
        let stdin = match &program.stdin {
            Some(stdin) => Stdio::from(stdin.try_clone().map_err(cannot("share stdin"))?),
            None => Stdio::null(),
        };
        let mut command = Command::new(&program.binary);
        command
            .arg("swrk")
            .arg(theirs.as_raw_fd().to_string())
            .envs(
                program
                    .environment
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .stdin(stdin);
        if !program.callers_group {
            command.process_group(0);
        }
        sys::ignore_file_size_signal(&mut command);
        let mut inherited = program.inherited.clone();
        inherited.push(Arc::new(theirs));
        sys::inherit_only(&mut command, inherited);
        Child::spawn(command, &program.binary).map(|child| (Self(child), ours))
    }

    /// Its process id. It is not reused while this lives.
    pub fn pid(&self) -> Pid {
        self.0.pid()
    }

    /// Reads what it says; never resolves.
    pub async fn listen(&mut self) {
        self.0.listen().await;
    }

    /// Reads what it says until it ends. It is not reaped: its process id stays its own.
    pub async fn listen_to_its_end(&mut self) -> io::Result<()> {
        self.0.listen_to_its_end().await
    }

    /// The end of what it has said so far.
    pub fn said(&mut self) -> Vec<u8> {
        self.0.said()
    }

    /// Waits for its end, and reaps it. What it says meanwhile is read.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.0.ended().await
    }

    /// Kills it. Only where all else has failed: the processes that it dumps may be left with its
    /// code in them.
    pub fn kill(&mut self) {
        self.0.kill();
    }

    /// Leaves it running: it has become the command that was to be executed after a restore.
    pub fn let_go(self) -> u32 {
        self.0.let_go()
    }

    /// Lets no write to a file succeed from now on, in it or in any process that it has made or
    /// makes. It is how a dump is brought to an orderly failure.
    pub fn refuse_writes(&self) {
        let none = Rlimit {
            current: Some(0),
            maximum: Some(0),
        };
        descend([self.pid()], |pid| {
            // It may have ended.
            let held = Pidfd::take(pid);
            let _ = rustix::process::prlimit(Some(pid), Resource::Fsize, none);
            // Looked for afterwards, since a child that is made later inherits the limit.
            let children = held.ok().and_then(|held| held.children().ok());
            children.unwrap_or_default()
        });
    }
}

/// A process id as CRIU sends it. No process has one that is not positive.
pub(crate) fn pid(raw: i32) -> Option<Pid> {
    Some(raw).filter(|raw| *raw > 0).and_then(Pid::from_raw)
}
