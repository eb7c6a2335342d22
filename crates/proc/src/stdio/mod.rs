//! The standard streams of a process: pipes towards the container, FIFOs towards containerd, and
//! pumps between them.
//!
//! What holds whatever comes and goes at the other ends:
//! - Opening never blocks, and neither end of a FIFO waits for the other.
//! - We keep an end of our own of every FIFO: the read end of an output, so that containerd may
//!   go and come back without the container getting SIGPIPE and without losing what was not read
//!   yet; the write end of stdin, so that a second writer may attach after the first has gone.
//! - Only [`Streams::close_stdin`] gives up that write end. Then the container meets the end of
//!   its input when the last writer has gone and the pipe is drained.
//! - An output's reader meets its end when every process that held the pipe has closed it and all
//!   was read from it; the FIFO's own content outlives that until [`Streams::close`].
//!
//! FIFOs and null only: terminals, files and logging binaries are refused by name before anything
//! is made. The pump is in [`pump`]; which path means what, and opening it, in [`fifo`].

mod fifo;
mod pump;

#[cfg(test)]
mod tests;

use std::{
    os::fd::OwnedFd,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use nix::unistd::{Gid, Uid, fchown};
use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::ioctl_fionread,
    pipe::{PipeFlags, pipe_with},
};
use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{sleep, timeout},
};

use self::{
    fifo::Fifo,
    pump::{Pump, Rest},
};
use crate::{
    error::{Error, Result},
    sync::lock,
};

/// How long an exit waits for the last output to be taken: see [`Streams::taken`].
const TAKEN_LIMIT: Duration = Duration::from_millis(300);

/// How often a FIFO is looked at then, or a pipe that is drained.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// The streams of a process as a client gives them: paths, `fifo://` or plain, or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StdioPaths {
    /// What the process reads.
    pub stdin: String,
    /// Where its output goes.
    pub stdout: String,
    /// Where its errors go.
    pub stderr: String,
    /// Whether it wants a terminal.
    pub terminal: bool,
}

impl StdioPaths {
    /// Refuses what cannot be served; nothing is opened or made.
    pub fn check(&self) -> Result<()> {
        self.fifos().map(drop)
    }

    /// The FIFOs of stdin, stdout and stderr, each found to be one.
    fn fifos(&self) -> Result<[Option<Fifo>; 3]> {
        if self.terminal {
            return Err(Error::UnsupportedStdio {
                what: "a terminal".to_owned(),
            });
        }
        // All the schemes first: a refusal by name must not hide behind a path that is not there.
        let stdin = fifo::path("stdin", &self.stdin)?;
        let stdout = fifo::path("stdout", &self.stdout)?;
        let stderr = fifo::path("stderr", &self.stderr)?;
        Ok([
            stdin.map(|path| Fifo::find("stdin", path)).transpose()?,
            stdout.map(|path| Fifo::find("stdout", path)).transpose()?,
            stderr.map(|path| Fifo::find("stderr", path)).transpose()?,
        ])
    }
}

/// The user and group that own the container's ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The open streams of one process. Dropping them closes them.
#[derive(Debug)]
pub(crate) struct Streams {
    paths: StdioPaths,
    /// What the runtime is to hand to the process.
    container: Mutex<stasis_engine::Stdio>,
    /// Our write end of the stdin FIFO.
    stdin: Mutex<Option<OwnedFd>>,
    /// Our read ends of the output FIFOs.
    outputs: Mutex<Vec<OwnedFd>>,
    stdin_pump: Option<AbortHandle>,
    output_pumps: Vec<AbortHandle>,
    /// What they have still to move.
    rests: Vec<Rest>,
    /// Each output pump holds a receiver until its pipe has met its end.
    pumping: watch::Sender<()>,
}

impl Streams {
    /// Opens the streams and starts to pump. Needs a tokio runtime.
    pub(crate) fn open(paths: &StdioPaths, owner: Owner) -> Result<Self> {
        let [stdin, stdout, stderr] = paths.fifos()?;
        let mut streams = Self {
            paths: paths.clone(),
            container: Mutex::default(),
            stdin: Mutex::default(),
            outputs: Mutex::default(),
            stdin_pump: None,
            output_pumps: Vec::new(),
            rests: Vec::new(),
            pumping: watch::Sender::new(()),
        };
        let container = stasis_engine::Stdio {
            stdin: stdin
                .map(|fifo| streams.open_input(&fifo, owner))
                .transpose()?,
            stdout: stdout
                .map(|fifo| streams.open_output(&fifo, owner))
                .transpose()?,
            stderr: stderr
                .map(|fifo| streams.open_output(&fifo, owner))
                .transpose()?,
        };
        streams.container = Mutex::new(container);
        Ok(streams)
    }

    /// The paths, as they were given.
    pub(crate) fn paths(&self) -> &StdioPaths {
        &self.paths
    }

    /// The container's ends, for the runtime. They are given once.
    pub(crate) fn container_ends(&self) -> stasis_engine::Stdio {
        std::mem::take(&mut *lock(&self.container))
    }

    /// Lets the input end when its last writer has gone.
    pub(crate) fn close_stdin(&self) {
        lock(&self.stdin).take();
    }

    /// Lets go of the input: nobody is left to read it.
    pub(crate) fn process_ended(&self) {
        self.close_stdin();
        self.stdin_pump.iter().for_each(AbortHandle::abort);
    }

    /// Waits until the output that was written so far has reached the FIFOs, but not longer than
    /// `limit`. Says whether it has. Its end is not waited for: a process that merely holds a pipe
    /// may live for ever.
    pub(crate) async fn drain(&self, limit: Duration) -> bool {
        let moved = async {
            // No event tells that a pipe has become empty.
            while !self.rests.iter().all(Rest::is_empty) {
                sleep(LOOK_AGAIN).await;
            }
        };
        timeout(limit, moved).await.is_ok()
    }

    /// Waits until the process's output was read to its end and has been taken from the FIFOs, but
    /// not for long: a reader need not be there, and a process that outlives this one may hold
    /// the pipes.
    ///
    /// containerd's Go client closes its ends of the FIFOs as soon as it hears of an exit
    /// (`pkg/cio/io_unix.go`, `Cancel`), so that what it has not read by then is lost: one in
    /// fifty containers that end right after a megabyte lost up to 100 KiB of it under any shim.
    pub(crate) async fn taken(&self) {
        let all_taken = async {
            self.pumping.closed().await;
            // No event tells that a FIFO has become empty.
            while !self.is_empty() {
                sleep(LOOK_AGAIN).await;
            }
        };
        // Too late is no fault of anybody's that could be told.
        let _ = timeout(TAKEN_LIMIT, all_taken).await;
    }

    /// Whether nothing waits in the FIFOs of the output.
    fn is_empty(&self) -> bool {
        let waiting = |fifo: &OwnedFd| ioctl_fionread(fifo).unwrap_or_default() > 0;
        !lock(&self.outputs).iter().any(waiting)
    }

    /// Ends all pumps and closes everything.
    pub(crate) fn close(&self) {
        drop(self.container_ends());
        self.process_ended();
        self.output_pumps.iter().for_each(AbortHandle::abort);
        lock(&self.outputs).clear();
    }

    fn open_input(&mut self, fifo: &Fifo, owner: Owner) -> Result<OwnedFd> {
        let (container, ours) = pipe(owner)?;
        let source = fifo.open(OFlags::RDONLY)?;
        let hold = fifo.open(OFlags::WRONLY)?;
        let pump = Pump::new(source, nonblocking(ours)?)?;
        self.stdin_pump = Some(spawn("stdin", pump, None));
        *self.stdin.get_mut().unwrap_or_else(PoisonError::into_inner) = Some(hold);
        Ok(container)
    }

    fn open_output(&mut self, fifo: &Fifo, owner: Owner) -> Result<OwnedFd> {
        let (ours, container) = pipe(owner)?;
        // The read end first: without a reader a FIFO cannot be opened for writing.
        let hold = fifo.open(OFlags::RDONLY)?;
        let sink = fifo.open(OFlags::WRONLY)?;
        let pump = Pump::new(nonblocking(ours)?, sink)?;
        self.rests.push(pump.rest());
        self.output_pumps
            .push(spawn(fifo.stream(), pump, Some(self.pumping.subscribe())));
        lock(&self.outputs).push(hold);
        Ok(container)
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.close();
    }
}

/// Pumps until the end, and then lets go of `pumping`.
fn spawn(stream: &'static str, pump: Pump, pumping: Option<watch::Receiver<()>>) -> AbortHandle {
    let task = tokio::spawn(async move {
        if let Err(error) = pump.run().await {
            tracing::warn!(stream, %error, "a stream broke off");
        }
        drop(pumping);
    });
    task.abort_handle()
}

/// A pipe's read and write end, both blocking: the container's programs expect that. It keeps the
/// kernel's size: with 256 KiB or 1 MiB two gigabytes took as long, which is what they take
/// through a single pipe.
fn pipe(owner: Owner) -> Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(Error::system("make a pipe"))?;
    if (owner.uid, owner.gid) != (0, 0) {
        fchown(
            &read,
            Some(Uid::from_raw(owner.uid)),
            Some(Gid::from_raw(owner.gid)),
        )
        .map_err(Error::system("give a pipe to io_uid and io_gid"))?;
    }
    Ok((read, write))
}

/// Makes our end of a pipe non-blocking. The other end is another open file and is not touched.
fn nonblocking(fd: OwnedFd) -> Result<OwnedFd> {
    fcntl_getfl(&fd)
        .and_then(|flags| fcntl_setfl(&fd, flags | OFlags::NONBLOCK))
        .map_err(Error::system("make a pipe non-blocking"))?;
    Ok(fd)
}
