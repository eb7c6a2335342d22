//! Signals to a container of runc or crun.

use std::{io, os::fd::BorrowedFd};

use nix::{errno::Errno, unistd::Pid};
use stasis_linux::{cgroup::Freezer, sys};

use super::handle::Runc;
use crate::{
    calls::{EngineState, EngineStatus, Signal, Target},
    error::{Error, Result},
    identity::Kind,
};

pub(super) async fn kill(
    runc: &Runc,
    id: &str,
    signal: Signal,
    target: Target,
    pidfd: BorrowedFd<'_>,
) -> Result<()> {
    let (init, all) = match target {
        Target::Init(init) => (init, false),
        Target::All(init) => (init, true),
        // The runtimes signal no other process than init.
        Target::Exec(pids) => {
            return match sys::send_signal(pidfd, signal.number()) {
                Ok(()) => Ok(()),
                Err(error) if is_gone(&error) => Err(Error::NoSuchProcess { id: id.to_owned() }),
                Err(error) => Err(Error::io("signal", format!("/proc/{}", pids.host))(error)),
            };
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
        && let Ok(Some(freezer)) = Freezer::of(init.as_raw())
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
    match Freezer::of(init.as_raw()) {
        Ok(Some(freezer)) => Ok(freezer.end()?),
        Ok(None) => match sys::send_signal(pidfd, Signal::KILL.number()) {
            Err(error) if !is_gone(&error) => {
                Err(Error::io("kill", format!("/proc/{init}"))(error))
            }
            _ => Ok(()),
        },
        // It ended by itself, and with init all processes of its PID namespace.
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ESRCH as i32)
}
