//! Managing a process: knowing what it does, signalling it, learning how it ended.
//!
//! A process is held by a pidfd, which is never another process's, and not by its number. If it
//! is our child, its exit is waited for and taken by `waitid(P_PIDFD)`. If not, the kernel tells
//! the status once its parent has taken it (`PIDFD_GET_INFO`, Linux 6.15).

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitId, WaitIdOptions, waitid},
};
use stasis_linux::{
    Pidfd,
    procfs::{self, Entry, Stat},
    sys,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{sleep, timeout},
};

use super::{Attached, Exit, ProcessError, TaskState, Tree};

/// How long the parent of an ended process is given to take its status.
const PARENT: Duration = Duration::from_secs(1);
/// How long a tracer is given to leave the status of a child to us. CRIU does as soon as it comes to
/// it, and it is nobody else's, so that giving up helps none.
const TRACER: Duration = Duration::from_secs(10);
/// How often it is looked whether a tracer has.
const LOOK: Duration = Duration::from_millis(5);

/// What a managed process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Liveness {
    /// It runs, sleeps, or waits for a disk.
    Running,
    /// A signal or a debugger stopped it.
    Stopped,
    /// It has ended, and its parent, which is not this process, has not taken its status.
    Zombie,
    /// It has ended.
    Exited(Exit),
}

/// A process that we know the end of: one that was [run](super::Run), restored, or taken over.
///
/// Dropping it leaves the process alone. A child of ours that ends after that stays a zombie until
/// somebody reaps it.
///
/// ```
/// use stasis_plain::{Exit, Run, Liveness};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let process = Run::new("sh").args(["-c", "exit 7"]).start()?;
/// assert_eq!(process.exited().await?, Exit::Code(7));
/// assert_eq!(process.state()?, Liveness::Exited(Exit::Code(7)));
/// # Ok::<(), stasis_plain::ProcessError>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct Managed {
    pid: u32,
    started: u64,
    pidfd: Pidfd,
    entry: Entry,
    child: bool,
    exit: OnceLock<Exit>,
    /// Pidfd from asking the kernel to setting `exit`: it tells the status of a child once.
    asking: Mutex<()>,
    attached: Option<Attached>,
}

impl Managed {
    /// Takes over a process that runs already, whoever started it: one that another program
    /// started, or the root of a restored tree. A restored one is our child, and so gives its exit
    /// status on every kernel, if it was restored with `rst_sibling`.
    ///
    /// ```
    /// use stasis_plain::{Managed, Liveness};
    ///
    /// let myself = Managed::take_over(std::process::id())?;
    /// assert_eq!(myself.state()?, Liveness::Running);
    /// # Ok::<(), stasis_plain::ProcessError>(())
    /// ```
    ///
    /// # Errors
    /// If there is no such process.
    pub fn take_over(pid: u32) -> Result<Self, ProcessError> {
        let pidfd = open(pid)?;
        let entry = Entry::open(pid)?;
        // Who is not reaped yet has kept its number since the pidfd was opened, so that the
        // directory is of the same process.
        if pidfd.is_reaped() {
            return Err(ProcessError::Gone { pid });
        }
        let stat = entry.stat()?;
        let child = is_child(pidfd.as_fd(), pid)?;
        Ok(Self::hold(pidfd, entry, &stat, child))
    }

    /// Holds a child that this process has just started and nobody has reaped.
    pub(super) fn of_child(pid: u32) -> Result<Self, ProcessError> {
        let pidfd = open(pid)?;
        let entry = Entry::open(pid)?;
        let stat = entry.stat()?;
        Ok(Self::hold(pidfd, entry, &stat, true))
    }

    fn hold(pidfd: Pidfd, entry: Entry, stat: &Stat, child: bool) -> Self {
        Self {
            pid: entry.pid(),
            started: stat.started,
            pidfd,
            entry,
            child,
            exit: OnceLock::new(),
            asking: Mutex::new(()),
            attached: None,
        }
    }

    /// Lets it keep our ends of its standard streams, until they are [taken](Self::take_attached).
    #[must_use]
    pub fn attach(mut self, attached: Option<Attached>) -> Self {
        self.attached = attached;
        self
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// When it started, in hundredths of a second since the machine did. With the number, this
    /// names one process and no other.
    #[must_use]
    pub fn started(&self) -> u64 {
        self.started
    }

    /// Is it our child, so that we are who takes its exit status?
    #[must_use]
    pub fn is_child(&self) -> bool {
        self.child
    }

    /// A descriptor of it, to be polled or given to system calls.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Takes our ends of its standard streams, if they were made attachable.
    pub fn take_attached(&mut self) -> Option<Attached> {
        self.attached.take()
    }

    /// The tree that grows from it.
    ///
    /// # Errors
    /// If it is gone, or `/proc` may not be read.
    pub fn tree(&self) -> Result<Tree, ProcessError> {
        let tree = Tree::read(self.pid)?;
        if tree.root().started == self.started {
            Ok(tree)
        } else {
            Err(ProcessError::Gone { pid: self.pid })
        }
    }

    /// What it is doing. An ended child is reaped by this.
    ///
    /// # Errors
    /// If the kernel refuses to tell.
    pub fn state(&self) -> Result<Liveness, ProcessError> {
        if let Some(exit) = self.known_exit()? {
            return Ok(Liveness::Exited(exit));
        }
        match self.entry.stat().map(|stat| TaskState::of(stat.state)) {
            Ok(TaskState::Running) => Ok(Liveness::Running),
            Ok(TaskState::Stopped) => Ok(Liveness::Stopped),
            Ok(TaskState::Zombie) if !self.child => Ok(Liveness::Zombie),
            // It has ended since the question before.
            Ok(TaskState::Zombie) | Err(procfs::Error::Gone { .. }) => Ok(Liveness::Exited(
                self.known_exit()?.unwrap_or(Exit::Unknown),
            )),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until it has ended, and says how. It may be waited for by many, and again after its
    /// end; dropping the wait loses nothing.
    ///
    /// For a process that is not our child this comes when its parent has taken its status, or a
    /// second after its end if the parent does not: then, and before Linux 6.15, the status is
    /// [unknown](Exit::Unknown).
    ///
    /// # Errors
    /// If the kernel refuses to tell.
    ///
    /// # Panics
    /// Outside a tokio runtime with its I/O and time drivers on.
    pub async fn exited(&self) -> Result<Exit, ProcessError> {
        let watched = self
            .pidfd
            .as_fd()
            .try_clone_to_owned()
            .and_then(|pidfd| sys::watch(pidfd, Interest::READABLE))
            .map_err(|source| self.failed("wait for", source))?;
        // Readable is a process that has ended, reaped or not.
        let _ready = watched
            .readable()
            .await
            .map_err(|source| self.failed("wait for", source))?;
        if let Some(exit) = self.known_exit()? {
            return Ok(exit);
        }
        if self.child {
            // Whoever traces it has its status before us: a CRIU that has dumped it, for a moment.
            let ours = async {
                loop {
                    sleep(LOOK).await;
                    if let Some(exit) = self.known_exit()? {
                        return Ok(exit);
                    }
                }
            };
            if let Ok(exit) = timeout(TRACER, ours).await {
                return exit;
            }
        } else if sys::pidfd_exit(self.pidfd.as_fd()).is_ok() {
            // Past the time it is unknown; a failure of the wait comes to the same.
            let _ = timeout(PARENT, reaped(&watched)).await;
        }
        let exit = self.known_exit()?.unwrap_or(Exit::Unknown);
        Ok(*self.exit.get_or_init(|| exit))
    }

    /// Sends it a signal by its number.
    ///
    /// # Errors
    /// If it is gone, or may not be signalled.
    pub fn signal(&self, signal: i32) -> Result<(), ProcessError> {
        match sys::send_signal(self.pidfd.as_fd(), signal) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::SRCH) => {
                Err(ProcessError::Gone { pid: self.pid })
            }
            sent => sent.map_err(|source| self.failed("signal", source)),
        }
    }

    /// Ends it at once.
    ///
    /// # Errors
    /// If it is gone, or may not be signalled.
    pub fn kill(&self) -> Result<(), ProcessError> {
        self.signal(Signal::KILL.as_raw())
    }

    /// How it ended, if it has and that is to be known. Reaps a child.
    fn known_exit(&self) -> Result<Option<Exit>, ProcessError> {
        let _asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(exit) = self.exit.get() {
            return Ok(Some(*exit));
        }
        let exit = if self.child {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            match waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
                Ok(status) => status.map(|status| Exit::of_child(&status)),
                // Somebody else in this process reaped it.
                Err(Errno::CHILD) => Some(self.kept_exit().unwrap_or(Exit::Unknown)),
                Err(errno) => return Err(self.failed("wait for", errno.into())),
            }
        } else if self.pidfd.has_ended() {
            self.kept_exit()
        } else {
            None
        };
        Ok(exit.map(|exit| *self.exit.get_or_init(|| exit)))
    }

    /// What the kernel keeps of it for the holders of pidfds. One that is too old to keep anything
    /// keeps nothing.
    fn kept_exit(&self) -> Option<Exit> {
        let status = sys::pidfd_exit(self.pidfd.as_fd()).ok()??;
        Some(Exit::of_wait_status(status))
    }

    fn failed(&self, step: &'static str, source: io::Error) -> ProcessError {
        ProcessError::Hold {
            step,
            pid: self.pid,
            source,
        }
    }
}

/// Waits until the process has been reaped, of which the hang-up of its pidfd tells.
async fn reaped(pidfd: &AsyncFd<OwnedFd>) {
    while let Ok(mut ready) = pidfd.readable().await {
        if ready.ready().is_read_closed() {
            return;
        }
        ready.clear_ready();
    }
}

fn open(pid: u32) -> Result<Pidfd, ProcessError> {
    let number = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(ProcessError::Gone { pid })?;
    match Pidfd::take(number) {
        Ok(pidfd) => Ok(pidfd),
        Err(Errno::SRCH) => Err(ProcessError::Gone { pid }),
        Err(errno) => Err(ProcessError::Hold {
            step: "hold",
            pid,
            source: errno.into(),
        }),
    }
}

/// Is it a child of this process? Asking takes nothing away from whoever waits for it.
fn is_child(pidfd: BorrowedFd<'_>, pid: u32) -> Result<bool, ProcessError> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match waitid(WaitId::PidFd(pidfd), options) {
        Ok(_) => Ok(true),
        Err(Errno::CHILD) => Ok(false),
        Err(errno) => Err(ProcessError::Hold {
            step: "wait for",
            pid,
            source: errno.into(),
        }),
    }
}
