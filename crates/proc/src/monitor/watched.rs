//! One process that is waited for by its pidfd.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::SystemTime,
};

use nix::unistd::Pid;
use rustix::{
    io::Errno,
    process::{WaitId, WaitIdOptions, WaitIdStatus, waitid},
};
use stasis_engine::Children;
use stasis_linux::{Pidfd, sys};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::SetOnce,
};

use crate::exit::{NO_STATUS, ProcessExit};

/// A process that this shim has adopted. Clones are the same process.
#[derive(Debug, Clone)]
pub struct Watched(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pid: Pid,
    pidfd: Arc<OwnedFd>,
    exit: SetOnce<ProcessExit>,
}

impl Watched {
    /// Waits for `pid` from now on, and keeps the sweeper away from it. `publish` is called before
    /// its end is told here.
    pub(super) fn watch(
        children: &Children,
        pid: Pid,
        pidfd: OwnedFd,
        publish: impl FnOnce(ProcessExit) + Send + 'static,
    ) -> io::Result<Self> {
        let pidfd = Arc::new(pidfd);
        let fd = sys::watch_shared(Arc::clone(&pidfd), Interest::READABLE)?;
        let owned = children.own(pid);
        let process = Self(Arc::new(Inner {
            pid,
            pidfd,
            exit: SetOnce::new(),
        }));
        let watched = process.clone();
        tokio::spawn(async move {
            // Fails only when the runtime is being shut down, and then nobody waits.
            let Ok(status) = reap(pid, &fd).await else {
                return;
            };
            drop(owned);
            let exit = ProcessExit {
                pid,
                status,
                timestamp: SystemTime::now(),
            };
            publish(exit);
            // Nobody else sets it.
            let _ = watched.0.exit.set(exit);
        });
        Ok(process)
    }

    /// A process that has ended and was reaped.
    pub(super) fn ended(pidfd: OwnedFd, exit: ProcessExit) -> Self {
        let (pid, pidfd) = (exit.pid, Arc::new(pidfd));
        Self(Arc::new(Inner {
            pid,
            pidfd,
            exit: SetOnce::new_with(Some(exit)),
        }))
    }

    /// Its pid. It may be another's as soon as [`Watched::exited`] says something.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.0.pid
    }

    /// Its pidfd, which never becomes another's.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.0.pidfd.as_fd()
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn exited(&self) -> Option<ProcessExit> {
        self.0.exit.get().copied()
    }

    /// Waits until it has ended; any number may wait.
    pub async fn wait(&self) -> ProcessExit {
        *self.0.exit.wait().await
    }

    /// Signals it by its pidfd.
    ///
    /// # Errors
    /// If there is no such signal, or the process has ended.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        if signal == 0 {
            // It would only be looked whether there is a process.
            return Err(Errno::INVAL.into());
        }
        sys::send_signal(self.pidfd(), signal)
    }
}

/// Opens a pidfd.
pub(super) fn open(pid: Pid) -> io::Result<OwnedFd> {
    // 0 and negative numbers are no process, and rustix wants none of them.
    let pid = Some(pid.as_raw())
        .filter(|&pid| pid > 0)
        .and_then(rustix::process::Pid::from_raw);
    Ok(Pidfd::take(pid.ok_or(Errno::SRCH)?)?.into())
}

/// Opens a pidfd of a child of ours that was not reaped yet. Another's end would not be shown to
/// us, and it may be a stranger that was given the pid of a child long gone.
pub(super) fn open_child(pid: Pid) -> io::Result<OwnedFd> {
    let pidfd = open(pid)?;
    let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::PidFd(pidfd.as_fd()), peek)?;
    Ok(pidfd)
}

/// The exit code that `status` shows, or 128 and the signal.
pub(super) fn code(status: &WaitIdStatus) -> u32 {
    let code = status
        .exit_status()
        .or_else(|| status.terminating_signal().map(|sig| 128 + sig));
    code.and_then(|code| u32::try_from(code).ok())
        .unwrap_or(NO_STATUS)
}

/// Waits for the end of the process and reaps it.
async fn reap(pid: Pid, pidfd: &AsyncFd<Arc<OwnedFd>>) -> io::Result<u32> {
    loop {
        let mut ready = pidfd.readable().await?;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match waitid(WaitId::PidFd(pidfd.as_fd()), options) {
            Ok(Some(status)) => return Ok(code(&status)),
            Ok(None) => ready.clear_ready(),
            Err(Errno::INTR) => {}
            Err(error) => {
                tracing::warn!(pid = pid.as_raw(), %error, "cannot tell how a process ended");
                return Ok(NO_STATUS);
            }
        }
    }
}
