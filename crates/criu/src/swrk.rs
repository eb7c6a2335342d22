//! `criu swrk`: a CRIU of our own for one connection, as a child process.
//!
//! The child inherits its end of the socket and what the caller names, and nothing else. What it
//! says on stderr is read all the time: before its log is open CRIU explains itself there only,
//! and a full pipe would stop it with the processes frozen. It is always reaped.

use std::{
    collections::VecDeque,
    ffi::OsString,
    io::{self, PipeReader},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
};

use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Signal};
use thiserror::Error;
use tokio::io::{Interest, unix::AsyncFd};

use crate::{
    sys,
    transport::{Connection, TransportError},
};

/// What is kept of stderr: the end of it.
const STDERR: usize = 64 << 10;

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

/// Why there is no `criu swrk`.
#[derive(Debug, Error)]
pub enum SpawnError {
    /// There is none, or it may not be executed.
    #[error("cannot start {binary}; install CRIU, or name its binary")]
    Start {
        /// What was to be started.
        binary: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Something that it needs could not be made.
    #[error("cannot {step} for criu")]
    Prepare {
        /// What was tried.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Its socket could not be made.
    #[error(transparent)]
    Socket(#[from] TransportError),
}

/// A running `criu swrk`. Dropping it kills it, and waits for it.
#[derive(Debug)]
pub(crate) struct Swrk {
    child: Child,
    pidfd: AsyncFd<OwnedFd>,
    stderr: Stderr,
    exit: Option<ExitStatus>,
    /// It has become another program, which is not ours to kill.
    let_go: bool,
}

impl Swrk {
    /// Starts it, in the runtime of the caller, and the connection to it.
    pub fn spawn(program: &Program) -> Result<(Self, Connection), SpawnError> {
        let (ours, theirs) = Connection::pair()?;
        let prepare = |step| move |source| SpawnError::Prepare { step, source };
        let (stderr, writer) = io::pipe().map_err(prepare("make a pipe"))?;
        let stdin = match &program.stdin {
            Some(stdin) => Stdio::from(stdin.try_clone().map_err(prepare("share stdin"))?),
            None => Stdio::null(),
        };
        let stdout = writer.try_clone().map_err(prepare("share a pipe"))?;

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
            .stdin(stdin)
            .stdout(stdout)
            .stderr(writer);
        if !program.callers_group {
            command.process_group(0);
        }
        sys::ignore_file_size_signal(&mut command);
        let mut inherited = program.inherited.clone();
        inherited.push(Arc::new(theirs));
        sys::inherit_only(&mut command, inherited);
        let child = command.spawn().map_err(|source| SpawnError::Start {
            binary: program.binary.clone(),
            source,
        })?;
        // Its socket's other end stays open here until the command goes.
        drop(command);
        Self::watch(child, stderr).map(|swrk| (swrk, ours))
    }

    fn watch(mut child: Child, stderr: PipeReader) -> Result<Self, SpawnError> {
        let watched = Self::watchers(&child, stderr);
        match watched {
            Ok((pidfd, stderr)) => Ok(Self {
                child,
                pidfd,
                stderr,
                exit: None,
                let_go: false,
            }),
            Err(error) => {
                // It has been asked nothing yet.
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    fn watchers(
        child: &Child,
        stderr: PipeReader,
    ) -> Result<(AsyncFd<OwnedFd>, Stderr), SpawnError> {
        let prepare = |step| move |source| SpawnError::Prepare { step, source };
        rustix::io::ioctl_fionbio(&stderr, true)
            .map_err(io::Error::from)
            .map_err(prepare("set up a pipe"))?;
        let pidfd = rustix::process::pidfd_open(Pid::from_child(child), PidfdFlags::empty())
            .map_err(io::Error::from)
            .map_err(prepare("open a pidfd"))?;
        let pidfd = sys::watch(pidfd, Interest::READABLE).map_err(prepare("watch a process"))?;
        let pipe =
            sys::watch(stderr.into(), Interest::READABLE).map_err(prepare("watch a pipe"))?;
        let stderr = Stderr {
            pipe,
            ended: false,
            said: VecDeque::new(),
        };
        Ok((pidfd, stderr))
    }

    /// Its process id. It is not reused while this lives.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Reads what it says; never resolves.
    pub async fn listen(&mut self) {
        self.stderr.listen().await;
    }

    /// The end of what it has said so far.
    pub fn said(&mut self) -> Vec<u8> {
        self.stderr.said()
    }

    /// Waits for its end, and reaps it. What it says meanwhile is read.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        if let Some(exit) = self.exit {
            return Ok(exit);
        }
        tokio::select! {
            ready = self.pidfd.readable() => drop(ready?),
            () = self.stderr.listen() => {}
        }
        let exit = self.child.wait()?;
        self.exit = Some(exit);
        Ok(exit)
    }

    /// Lets no write to a file succeed from now on, in it or in any process that it has made or
    /// makes. It is how a dump is brought to an orderly failure.
    pub fn refuse_writes(&self) {
        let none = Rlimit {
            current: Some(0),
            maximum: Some(0),
        };
        // Parents first: a child that is made meanwhile inherits the limit.
        let mut queue = VecDeque::from([self.pid()]);
        while let Some(pid) = queue.pop_front() {
            // It may have ended.
            let _ = rustix::process::prlimit(Some(pid), Resource::Fsize, none);
            queue.extend(children(pid));
        }
    }

    /// Kills it. Only where all else has failed: the processes that it dumps may be left with its
    /// code in them.
    pub fn kill(&mut self) {
        let _ = rustix::process::pidfd_send_signal(self.pidfd.get_ref().as_fd(), Signal::KILL);
    }

    /// Leaves it running: it has become the command that was to be executed after a restore. A
    /// thread waits for its end.
    pub fn let_go(mut self) -> u32 {
        self.let_go = true;
        let pid = self.child.id();
        let pidfd = self.pidfd.get_ref().try_clone();
        let waiter = std::thread::Builder::new().name(String::from("criu-exec"));
        if let Ok(pidfd) = pidfd {
            let waited = waiter.spawn(move || {
                let id = rustix::process::WaitId::PidFd(pidfd.as_fd());
                let _ = rustix::process::waitid(id, rustix::process::WaitIdOptions::EXITED);
            });
            if let Err(error) = waited {
                tracing::warn!(pid, %error, "nobody waits for the command that CRIU has become");
            }
        }
        pid
    }
}

/// What a child says on a pipe: the end of it is kept.
#[derive(Debug)]
struct Stderr {
    pipe: AsyncFd<OwnedFd>,
    ended: bool,
    said: VecDeque<u8>,
}

impl Stderr {
    async fn listen(&mut self) {
        let mut buffer = [0; 4096];
        while !self.ended {
            let read = self
                .pipe
                .async_io(Interest::READABLE, |pipe| {
                    Ok(rustix::io::read(pipe, &mut buffer)?)
                })
                .await;
            self.keep(read.ok().map(|length| &buffer[..length]));
        }
        std::future::pending().await
    }

    fn said(&mut self) -> Vec<u8> {
        let mut buffer = [0; 4096];
        while !self.ended {
            match rustix::io::read(self.pipe.get_ref(), &mut buffer) {
                // A daemon that it has started keeps the pipe open: what is there, no more.
                Err(rustix::io::Errno::AGAIN) => break,
                read => self.keep(read.ok().map(|length| &buffer[..length])),
            }
        }
        self.said.iter().copied().collect()
    }

    fn keep(&mut self, read: Option<&[u8]>) {
        match read {
            Some([]) | None => self.ended = true,
            Some(bytes) => {
                self.said.extend(bytes);
                let beyond = self.said.len().saturating_sub(STDERR);
                self.said.drain(..beyond);
            }
        }
    }
}

impl Drop for Swrk {
    fn drop(&mut self) {
        if self.exit.is_none() && !self.let_go {
            self.kill();
            let _ = self.child.wait();
        }
    }
}

/// A process id as CRIU sends it. No process has one that is not positive.
pub(crate) fn pid(raw: i32) -> Option<Pid> {
    Some(raw).filter(|raw| *raw > 0).and_then(Pid::from_raw)
}

/// The children of `parent`, of all its threads. None if it has ended.
pub(crate) fn children(parent: Pid) -> Vec<Pid> {
    let tasks = PathBuf::from(format!("/proc/{}/task", parent.as_raw_pid()));
    let Ok(threads) = std::fs::read_dir(&tasks) else {
        return Vec::new();
    };
    threads
        .filter_map(Result::ok)
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|children| {
            children
                .split_whitespace()
                .filter_map(|child| pid(child.parse().ok()?))
                .collect::<Vec<_>>()
        })
        .collect()
}
