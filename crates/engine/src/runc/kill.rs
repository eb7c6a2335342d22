//! Signals to a container of runc or crun.

use std::{io, os::fd::BorrowedFd};

use nix::{errno::Errno, unistd::Pid};
use rustix::process::pidfd_send_signal;

use super::handle::Runc;
use crate::{
    calls::{EngineState, EngineStatus, Signal, Target},
    cgroup::Freezer,
    error::{Error, Result},
    identity::Kind,
    sys,
};

pub(super) async fn kill(runc: &Runc, id: &str, signal: Signal, target: Target) -> Result<()> {
    let (init, all) = match target {
        Target::Init(init) => (init, false),
        Target::All(init) => (init, true),
        // The runtimes signal no other process than init.
        Target::Exec(pids) => {
            return sys::kill(pids.host, signal.number()).map_err(|errno| match errno {
                Errno::ESRCH => Error::NoSuchProcess { id: id.to_owned() },
                errno => Error::io("signal", format!("/proc/{}", pids.host))(errno.into()),
            });
        }
    };
    let call = runc
        .runtime
        .call("kill", runc.runtime.timeouts.kill)
        .flag("--all", all);
    match call.arg(id).arg(signal.number().to_string()).run().await {
        Err(error @ Error::Failed { .. }) => return Err(refused(runc, id, error).await),
        result => result.map(drop)?,
    }
    // crun leaves a paused container frozen, and in cgroup version 1 the signal pending.
    if runc.runtime.identity.kind == Kind::Crun
        && signal == Signal::KILL
        && let Ok(Some(freezer)) = Freezer::of(init)
        && let Err(error) = freezer.thaw()
    {
        // It may have gone in the meantime.
        tracing::debug!(%error, "a killed container was not thawed");
    }
    Ok(())
}

/// The runtimes say in words only why a signal cannot be sent, so the state tells.
async fn refused(runc: &Runc, id: &str, error: Error) -> Error {
    match runc.state(id).await {
        Ok(EngineState {
            status: EngineStatus::Stopped,
            ..
        })
        | Err(Error::NoSuchContainer { .. }) => Error::NoSuchProcess { id: id.to_owned() },
        Ok(_) => error,
        Err(error) => error,
    }
}

/// Ends a frozen container without letting it run again.
pub(super) fn end_frozen(init: Pid, pidfd: BorrowedFd<'_>) -> Result<()> {
    match Freezer::of(init) {
        Ok(Some(freezer)) => freezer.end(),
        Ok(None) => match pidfd_send_signal(pidfd, rustix::process::Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(Error::io("kill", format!("/proc/{init}"))(error.into())),
        },
        // It ended by itself, and with init all processes of its PID namespace.
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
