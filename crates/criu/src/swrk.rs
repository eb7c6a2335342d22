//! `criu swrk`: a CRIU of our own for one connection.
//!
//! It inherits its end of the socket and what the caller names, and nothing else.

use std::{
    ffi::OsString,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::PathBuf,
    process::{Command, Stdio},
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

impl Program {
    /// Starts it, in the runtime of the caller, and the connection to it. To kill it is for where all
    /// else has failed: the processes that it dumps may be left with its code in them.
    pub fn spawn(&self) -> Result<(Child, MessageSocket), SpawnError> {
        let (ours, theirs) = MessageSocket::pair()?;
        let stdin = match &self.stdin {
            Some(stdin) => Stdio::from(stdin.try_clone().map_err(cannot("share stdin"))?),
            None => Stdio::null(),
        };
        let mut command = Command::new(&self.binary);
        command
            .arg("swrk")
            .arg(theirs.as_raw_fd().to_string())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(stdin);
        if !self.callers_group {
            command.process_group(0);
        }
        sys::ignore_file_size_signal(&mut command);
        let mut inherited = self.inherited.clone();
        inherited.push(Arc::new(theirs));
        sys::inherit_only(&mut command, inherited);
        Ok((Child::spawn(command, &self.binary)?, ours))
    }
}

/// Lets no write to a file succeed from now on, in a `criu swrk` or in any process that it has made or
/// makes. It is how a dump is brought to an orderly failure.
pub(crate) fn refuse_writes(swrk: Pid) {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    descend([swrk], |pid| {
        // It may have ended.
        let held = Pidfd::take(pid);
        let _ = rustix::process::prlimit(Some(pid), Resource::Fsize, none);
        // Looked for afterwards, since a child that is made later inherits the limit.
        let children = held.ok().and_then(|held| held.children().ok());
        children.unwrap_or_default()
    });
}

/// A process id as CRIU sends it. No process has one that is not positive.
pub(crate) fn pid(raw: i32) -> Option<Pid> {
    Some(raw).filter(|raw| *raw > 0).and_then(Pid::from_raw)
}
