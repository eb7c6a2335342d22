//! One child process from start to end: process group, deadline, collected output.
//!
//! Knows nothing of runtimes. The child leads a process group of its own, dies with us, and is
//! always reaped here, also when the future that waits for it is dropped.

use std::{
    convert::Infallible,
    future::pending,
    io,
    os::fd::OwnedFd,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use rustix::pipe::{PipeFlags, pipe_with};
use stasis_linux::sys;
use tokio::{
    net::unix::pipe::Receiver,
    process::{Child, Command},
    runtime::Handle,
    sync::oneshot,
    time::{sleep, timeout},
};

use crate::{
    calls,
    children::{Children, Owned},
};

/// How the child's output streams are dealt with.
#[derive(Debug)]
pub(super) enum Streams {
    /// Both are read, as far as the caps go; stdin is `/dev/null`.
    Collected,
    /// Handed to the child, and with it to the container.
    Handed(calls::Stdio),
}

/// What became of a child.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

/// Why there is no [`Ended`].
#[derive(Debug)]
pub(super) enum Failure<E> {
    /// The program could not be started, or not be waited for.
    Spawn(io::Error),
    /// It was enough, for this reason. The process group was killed and the child reaped.
    Enough(E),
}

impl<E> From<io::Error> for Failure<E> {
    fn from(source: io::Error) -> Self {
        Self::Spawn(source)
    }
}

/// An output beyond this is thrown away: no answer of a runtime is nearly as long.
const STDOUT_CAP: usize = 4 << 20;
/// Enough for the last error line of the most talkative runtime.
const STDERR_CAP: usize = 64 << 10;

/// How long a killed child is waited for.
const REAPING: Duration = Duration::from_secs(5);

/// Runs `command` to its end, or until `enough`, which says why.
pub(super) async fn run<E>(
    mut command: Command,
    children: &Children,
    streams: Streams,
    enough: impl Future<Output = E>,
) -> Result<Ended, Failure<E>> {
    // Both would make runc take the shim's own descriptors and sockets for the container's.
    command.env_remove("LISTEN_FDS").env_remove("NOTIFY_SOCKET");
    command.process_group(0);
    sys::die_with_parent(command.as_std_mut());
    let (mut stdout, mut stderr) = attach(&mut command, streams)?;
    let mut running = Running::start(&mut command, children)?;
    // It holds our copies of the descriptors that it handed out; with them no pipe would end.
    drop(command);

    let status = tokio::select! {
        status = running.wait() => status?,
        never = drain(stdout.as_mut()) => match never {},
        never = drain(stderr.as_mut()) => match never {},
        why = enough => {
            running.kill();
            // What does not die at once is stuck in the kernel; it is reaped when that lets go.
            if let Ok(status) = timeout(REAPING, running.wait()).await {
                status?;
            }
            return Err(Failure::Enough(why));
        }
    };
    Ok(Ended {
        status,
        stdout: stdout.map(Collected::finish).unwrap_or_default(),
        stderr: stderr.map(Collected::finish).unwrap_or_default(),
    })
}

/// The passing of a deadline.
pub(super) async fn passed(deadline: Option<Duration>) -> Duration {
    match deadline {
        Some(after) => {
            sleep(after).await;
            after
        }
        None => pending().await,
    }
}

/// That a call is given up, by something that is sent.
pub(super) async fn given_up(by: Option<oneshot::Receiver<()>>) {
    if let Some(by) = by
        && by.await.is_ok()
    {
        return;
    }
    // Nobody is left who could.
    pending().await
}

fn attach(
    command: &mut Command,
    streams: Streams,
) -> io::Result<(Option<Collected>, Option<Collected>)> {
    let handed = match streams {
        Streams::Collected => {
            let (stdout, for_stdout) = Collected::new(STDOUT_CAP)?;
            let (stderr, for_stderr) = Collected::new(STDERR_CAP)?;
            command
                .stdin(Stdio::null())
                .stdout(for_stdout)
                .stderr(for_stderr);
            return Ok((Some(stdout), Some(stderr)));
        }
        Streams::Handed(stdio) => stdio,
    };
    let or_null = |stream: Option<OwnedFd>| stream.map_or_else(Stdio::null, Stdio::from);
    command.stdin(or_null(handed.stdin));
    command.stdout(or_null(handed.stdout));
    command.stderr(or_null(handed.stderr));
    Ok((None, None))
}

/// One collected stream.
struct Collected {
    pipe: Receiver,
    kept: Vec<u8>,
    cap: usize,
}

impl Collected {
    fn new(cap: usize) -> io::Result<(Self, OwnedFd)> {
        let (ours, childs) = pipe_with(PipeFlags::CLOEXEC)?;
        Ok((
            Self {
                pipe: Receiver::from_owned_fd(ours)?,
                kept: Vec::new(),
                cap,
            },
            childs,
        ))
    }

    /// Reads what is there. Gives whether more may come.
    fn read_ready(&mut self) -> bool {
        let mut buffer = [0; 4096];
        loop {
            match self.pipe.try_read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => {
                    let room = self.cap - self.kept.len();
                    self.kept.extend_from_slice(&buffer[..count.min(room)]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }

    /// What the child wrote. It has ended; a process that it left behind may hold the pipe for
    /// ever, so its end is not waited for.
    fn finish(mut self) -> Vec<u8> {
        self.read_ready();
        self.kept
    }
}

/// Keeps the pipe from filling up. Never ends: the child's end is what is waited for.
async fn drain(collected: Option<&mut Collected>) -> Infallible {
    if let Some(collected) = collected {
        while collected.pipe.readable().await.is_ok() && collected.read_ready() {}
    }
    pending().await
}

/// A child that is not reaped yet; dropping it ends its process group.
struct Running {
    /// `None` when it is reaped, or handed to the task that does it.
    child: Option<(Child, Owned)>,
    group: Pid,
}

impl Running {
    fn start(command: &mut Command, children: &Children) -> io::Result<Self> {
        let (child, owned) = children.spawn(command)?;
        Ok(Self {
            group: owned.pid(),
            child: Some((child, owned)),
        })
    }

    async fn wait(&mut self) -> io::Result<ExitStatus> {
        let Some((child, _)) = &mut self.child else {
            return Err(io::Error::other("the process was waited for before"));
        };
        let status = child.wait().await?;
        self.child = None;
        Ok(status)
    }

    /// SIGKILL to the whole group. Only before the leader is reaped, whose zombie keeps the
    /// group's number from being given to somebody else.
    fn kill(&self) {
        // It fails only for a group that is empty.
        let _ = killpg(self.group, Signal::SIGKILL);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.is_none() {
            return;
        }
        self.kill();
        // Without a runtime, this process is at its end and leaves the zombie to its parent.
        if let (Some((mut child, owned)), Ok(runtime)) = (self.child.take(), Handle::try_current())
        {
            runtime.spawn(async move {
                let _ = child.wait().await;
                drop(owned);
            });
        }
    }
}
