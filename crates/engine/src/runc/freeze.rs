//! Freezes a container, wholly, and for a dump at an instant at which CRIU can take it.
//!
//! crun writes to the cgroup and is done, and in cgroup version 1 that need not be enough: a
//! process that goes to wait for its vforked child before its turn is never frozen (Linux 6.18:
//! one in twelve pauses of a shell that starts one command after the other). crun then calls the
//! container a running one, for ever, and what is seen of its processes is no lasting truth. runc
//! looks, but a thousand times in a row only, which a busy machine's processes may not see.
//!
//! A process in vfork(2) waits in the kernel until its child has called execve(2), and shells
//! start their commands that way. Frozen in between, the parent cannot stop for CRIU, which gives
//! up after ten seconds: `Unseizable non-zombie PID found, state D` (seen of 4.2.1; one in twenty
//! dumps of a shell that starts a command every 10 ms, more where the machine is busy). So we
//! look before the dump, and let the container run for some milliseconds until nobody is there.

use std::time::Duration;

use nix::unistd::Pid;
use stasis_linux::{cgroup::Freezer, chain, procfs::Entry};

use super::handle::Runc;
use crate::{
    calls::{EngineState, EngineStatus},
    error::{Error, Result},
};

/// How often it is let run. It takes two calls of the runtime each time; one is nearly always
/// enough.
const ATTEMPTS: u32 = 50;
/// Longer than a command takes from vfork to execve.
const PAUSE: Duration = Duration::from_millis(5);

/// Where the kernel has a process wait for its vforked child: by the names of the functions that
/// its inlining leaves visible (Linux 5.10 and later, Linux 5.9 and earlier, not inlined).
const IN_VFORK: [&str; 3] = ["kernel_clone", "_do_fork", "wait_for_vfork_done"];

/// Freezes the container whose init is `init`, and returns when it is frozen. It runs on if this
/// fails.
pub(super) async fn pause(runc: &Runc, id: &str, init: Pid) -> Result<()> {
    runc.runtime.pause(id).await?;
    let waited = wait_frozen(runc, init).await;
    if waited.is_err()
        && let Err(error) = runc.runtime.resume(id).await
    {
        tracing::warn!("cannot thaw {id} again: {}", chain(&error));
    }
    waited
}

/// Waits until a container that is being frozen is so.
pub(super) async fn wait_frozen(runc: &Runc, init: Pid) -> Result<()> {
    let limit = runc.runtime.timeouts.pause;
    let Some(freezer) = Freezer::of(init.as_raw())? else {
        return Ok(());
    };
    if freezer.frozen(limit).await? {
        return Ok(());
    }
    Err(Error::Failed {
        engine: runc.runtime.identity.kind,
        verb: "pause",
        message: format!(
            "not all processes are frozen after {:?}: one may wait for a disk ([timeouts] pause)",
            limit.unwrap_or_default()
        ),
    })
}

/// Freezes the container, if the caller has not, with no process in vfork. Gives whether it was
/// running, and so is to be [thawed](thaw) afterwards.
pub(super) async fn freeze(runc: &Runc, id: &str, frozen: bool) -> Result<bool> {
    let (was_running, init) = match runc.state(id).await? {
        EngineState {
            status: EngineStatus::Running,
            pid: Some(init),
        } => (!frozen, init),
        EngineState {
            status: EngineStatus::Paused,
            pid: Some(init),
        } => (false, init),
        // The runtime says why it does not dump in any other state.
        _ => return Ok(false),
    };
    let paused = if was_running {
        pause(runc, id, init).await
    } else {
        wait_frozen(runc, init).await
    };
    let seizable = match paused {
        Ok(()) => leave_vfork(runc, id, init).await,
        failed => failed,
    };
    match seizable {
        Ok(()) => Ok(was_running),
        Err(error) if was_running => thaw(runc, id, Err(error)).await,
        Err(error) => {
            let back = pause(runc, id, init).await;
            put_back(runc, id, true, back, Err(error)).await
        }
    }
}

/// Thaws a container that came running, and gives what came of its dump: a failure, too, where it
/// stays frozen.
pub(super) async fn thaw<T>(runc: &Runc, id: &str, result: Result<T>) -> Result<T> {
    let back = runc.runtime.resume(id).await;
    put_back(runc, id, false, back, result).await
}

/// What came of a dump, after the container was frozen or thawed again as it came: a failure, too,
/// where it now is otherwise.
pub(super) async fn put_back<T>(
    runc: &Runc,
    id: &str,
    came_frozen: bool,
    back: Result<()>,
    result: Result<T>,
) -> Result<T> {
    let Err(stuck) = back else {
        return result;
    };
    // The runtimes refuse as well where there is nothing to do.
    let as_it_came = match runc.state(id).await {
        Ok(state) => match state.status {
            EngineStatus::Stopped => true,
            EngineStatus::Paused => came_frozen,
            EngineStatus::Running => !came_frozen,
            EngineStatus::Creating | EngineStatus::Created => false,
        },
        Err(error) => matches!(error, Error::NoSuchContainer { .. }),
    };
    if as_it_came {
        return result;
    }
    let source = match result {
        Ok(_) => stuck,
        Err(error) => {
            tracing::warn!("cannot put {id} back as it came: {}", chain(&stuck));
            error
        }
    };
    Err(Error::Left {
        id: id.to_owned(),
        frozen: !came_frozen,
        source: Box::new(source),
    })
}

/// Lets the frozen container run for some milliseconds until no process of it is in vfork.
async fn leave_vfork(runc: &Runc, id: &str, init: Pid) -> Result<()> {
    let Some(freezer) = Freezer::of(init.as_raw())? else {
        return Ok(());
    };
    for _ in 0..ATTEMPTS {
        if !freezer.processes()?.into_iter().any(is_in_vfork) {
            return Ok(());
        }
        tracing::debug!("{id} was frozen in a vfork: once more");
        runc.runtime.resume(id).await?;
        tokio::time::sleep(PAUSE).await;
        pause(runc, id, init).await?;
    }
    Err(Error::Failed {
        engine: runc.runtime.identity.kind,
        verb: "checkpoint",
        message: format!(
            "at each of {ATTEMPTS} looks a process was in vfork(2), where CRIU cannot stop it: \
             try again when it starts fewer programs"
        ),
    })
}

fn is_in_vfork(pid: rustix::process::Pid) -> bool {
    Entry::open(pid.as_raw_pid().unsigned_abs())
        .and_then(|process| process.waits_in())
        .is_ok_and(|place| IN_VFORK.contains(&&*place))
}
