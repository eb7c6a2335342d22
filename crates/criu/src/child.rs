//! A CRIU that is a child process of ours.
//!
//! What it says is read all the time: before its log is open CRIU explains itself on stderr only,
//! and a full pipe would stop it. It is always reaped.

use std::{
    collections::VecDeque,
    io::{self, PipeReader},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

use rustix::process::{Pid, PidfdFlags, Signal};
use thiserror::Error;
use tokio::io::{Interest, unix::AsyncFd};

use stasis_linux::sys;

use crate::transport::TransportError;

/// What is kept of stderr: the end of it.
const STDERR: usize = 64 << 10;

/// Why there is no CRIU.
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

/// A running CRIU. Dropping it kills it, and waits for it.
#[derive(Debug)]
pub(crate) struct Child {
    child: std::process::Child,
    pidfd: AsyncFd<OwnedFd>,
    stderr: Stderr,
    exit: Option<ExitStatus>,
    /// It has become another program, which is not ours to kill.
    let_go: bool,
}

impl Child {
    /// Starts `command`, which runs `binary`, in the runtime of the caller. Its standard output
    /// and error are read here.
    pub fn spawn(mut command: Command, binary: &Path) -> Result<Self, SpawnError> {
        let (stderr, writer) = io::pipe().map_err(cannot("make a pipe"))?;
        let stdout = writer.try_clone().map_err(cannot("share a pipe"))?;
        command.stdout(stdout).stderr(writer);
        let child = command.spawn().map_err(|source| SpawnError::Start {
            binary: binary.to_owned(),
            source,
        })?;
        // What it inherits stays open here until the command goes.
        drop(command);
        Self::watch(child, stderr)
    }

    fn watch(mut child: std::process::Child, stderr: PipeReader) -> Result<Self, SpawnError> {
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
        child: &std::process::Child,
        stderr: PipeReader,
    ) -> Result<(AsyncFd<OwnedFd>, Stderr), SpawnError> {
        rustix::io::ioctl_fionbio(&stderr, true)
            .map_err(io::Error::from)
            .map_err(cannot("set up a pipe"))?;
        let pidfd = rustix::process::pidfd_open(Pid::from_child(child), PidfdFlags::empty())
            .map_err(io::Error::from)
            .map_err(cannot("open a pidfd"))?;
        let pidfd = sys::watch(pidfd, Interest::READABLE).map_err(cannot("watch a process"))?;
        let pipe = sys::watch(stderr.into(), Interest::READABLE).map_err(cannot("watch a pipe"))?;
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

    /// Reads what it says until it ends. It is not reaped: its process id stays its own.
    pub async fn listen_to_its_end(&mut self) -> io::Result<()> {
        tokio::select! {
            ready = self.pidfd.readable() => ready.map(drop),
            () = self.stderr.listen() => Ok(()),
        }
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
        self.listen_to_its_end().await?;
        let exit = self.child.wait()?;
        self.exit = Some(exit);
        Ok(exit)
    }

    /// Kills it.
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

impl Drop for Child {
    fn drop(&mut self) {
        if self.exit.is_none() && !self.let_go {
            self.kill();
            let _ = self.child.wait();
        }
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

/// The error of a step on the way to a child.
pub(crate) fn cannot(step: &'static str) -> impl FnOnce(io::Error) -> SpawnError {
    move |source| SpawnError::Prepare { step, source }
}
