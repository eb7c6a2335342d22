//! Freezes a container for a dump, at an instant at which CRIU can take it.
//!
//! A process in vfork(2) waits in the kernel until its child has called execve(2), and shells
//! start their commands that way. Frozen in between, the parent cannot stop for CRIU, which gives
//! up after ten seconds: `Unseizable non-zombie PID found, state D` (seen of 4.2.1; one in twenty
//! dumps of a shell that starts a command every 10 ms, more where the machine is busy). So we
//! look before the dump, and let the container run for some milliseconds until nobody is there.

use std::{fs, time::Duration};

use nix::unistd::Pid;

use super::Runc;
use crate::{
    cgroup::Freezer,
    engine::{Engine, EngineState, EngineStatus},
    error::{Error, Result, chain},
};

/// How often it is let run. It takes two calls of the runtime each time; one is nearly always
/// enough.
const ATTEMPTS: u32 = 20;
/// Longer than a command takes from vfork to execve.
const PAUSE: Duration = Duration::from_millis(5);

/// Where the kernel has a process wait for its vforked child: by the names of the functions that
/// its inlining leaves visible (Linux 5.10 and later, Linux 5.9 and earlier, not inlined).
const IN_VFORK: [&str; 3] = ["kernel_clone", "_do_fork", "wait_for_vfork_done"];

/// Freezes the container, if the caller has not, with no process in vfork. Gives whether it was
/// running, and so is to be [put back](put_back) afterwards.
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
        runc.pause(id).await
    } else {
        Ok(())
    };
    let settled = match paused {
        Ok(()) => settle(runc, id, init).await,
        failed => failed,
    };
    match settled {
        Ok(()) => Ok(was_running),
        failed => put_back(runc, id, !was_running, failed)
            .await
            .map(|()| was_running),
    }
}

/// Freezes or thaws a container, as it came, and gives what came of its dump: a failure, too,
/// where it now is otherwise than it came.
pub(super) async fn put_back<T>(
    runc: &Runc,
    id: &str,
    came_frozen: bool,
    result: Result<T>,
) -> Result<T> {
    let back = if came_frozen {
        runc.pause(id).await
    } else {
        runc.resume(id).await
    };
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

async fn settle(runc: &Runc, id: &str, init: Pid) -> Result<()> {
    for _ in 0..ATTEMPTS {
        let Some(freezer) = Freezer::of(init)? else {
            break;
        };
        if !freezer.processes()?.into_iter().any(is_in_vfork) {
            break;
        }
        tracing::debug!("{id} was frozen in a vfork: once more");
        runc.resume(id).await?;
        tokio::time::sleep(PAUSE).await;
        runc.pause(id).await?;
    }
    Ok(())
}

fn is_in_vfork(pid: Pid) -> bool {
    let place = fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    IN_VFORK.contains(&place.trim())
}
