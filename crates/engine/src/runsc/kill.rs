//! Signals to a gVisor container, in every state.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use stasis_linux::sys;

use super::{handle::Runsc, ids};
use crate::{
    calls::{EngineStatus, Signal, Target},
    error::{Error, Result},
};

pub(super) async fn kill(
    runsc: &Runsc,
    id: &str,
    signal: Signal,
    target: Target,
    pidfd: BorrowedFd<'_>,
) -> Result<()> {
    if ids::would_reach_another(&runsc.root, id)? {
        return Err(Error::NoSuchProcess { id: id.to_owned() });
    }
    let call = runsc.runtime.call("kill", runsc.runtime.timeouts.kill);
    let call = match target {
        Target::Init(_) => call,
        Target::All(_) => call.arg("--all"),
        Target::Exec(pids) => call.option("--pid", pids.inner.to_string()),
    };
    match call.arg(id).arg(signal.number().to_string()).run().await {
        Err(error @ Error::Failed { .. }) => {
            refused(runsc, id, signal, (target, pidfd), error).await
        }
        result => result.map(drop),
    }
}

/// runsc says in words only why it refused, so the state tells what to do.
async fn refused(
    runsc: &Runsc,
    id: &str,
    signal: Signal,
    (target, pidfd): (Target, BorrowedFd<'_>),
    error: Error,
) -> Result<()> {
    let gone = || Error::NoSuchProcess { id: id.to_owned() };
    let status = match runsc.state(id).await {
        Err(Error::NoSuchContainer { .. }) => EngineStatus::Stopped,
        state => state?.status,
    };
    let state = match status {
        EngineStatus::Stopped => return Err(gone()),
        EngineStatus::Running => {
            let Target::Exec(pids) = target else {
                return Err(error);
            };
            let lives = runsc.runtime.processes(id).await?.contains(&pids.inner);
            return Err(if lives { error } else { gone() });
        }
        EngineStatus::Creating | EngineStatus::Created => "created",
        EngineStatus::Paused => "paused",
    };
    match target {
        Target::Init(sandbox) | Target::All(sandbox) if signal == Signal::KILL => {
            match sys::send_signal(pidfd, signal.number()) {
                Ok(()) => Ok(()),
                Err(error) if error.raw_os_error() == Some(Errno::ESRCH as i32) => Err(gone()),
                Err(error) => Err(Error::io("kill the sandbox", format!("/proc/{sandbox}"))(
                    error,
                )),
            }
        }
        _ => {
            let what = format!("signal {} to a {state} container", signal.number());
            let advice = "have it run first, or kill the container with SIGKILL";
            Err(runsc.runtime.unsupported(what, advice))
        }
    }
}
