//! What answers around the mailbox, also while a dump or a restore runs: State, Wait, Pids, Kill
//! and CloseIO.

use std::{path::PathBuf, time::SystemTime};

use stasis_engine::Signal;
use stasis_proc::{Exit, Status, StdioPaths};

use super::{Error, ProcessRef, Result, Shared, lock, pid_number};

/// What is known of a process of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskState {
    /// The container's id.
    pub id: String,
    /// The process's own; empty for init.
    pub exec: String,
    /// The bundle directory.
    pub bundle: PathBuf,
    /// Its pid; zero while it has none.
    pub pid: u32,
    /// What it does.
    pub status: Status,
    /// Its streams.
    pub stdio: StdioPaths,
    /// Its status and time of exit, if it has ended.
    pub exit: Option<(u32, SystemTime)>,
}

/// One of the processes that run in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedProcess {
    /// Its pid.
    pub pid: u32,
    /// The exec that it is, if this shim started it.
    pub exec: Option<String>,
}

impl Shared {
    /// What is known of a process, without asking the runtime.
    ///
    /// # Errors
    /// If there is no such exec.
    pub fn state(&self, exec: &str) -> Result<TaskState> {
        let process = self.process(exec)?;
        Ok(TaskState {
            id: self.id.clone(),
            exec: exec.to_owned(),
            bundle: self.bundle.clone(),
            pid: process.pid(),
            status: process.status(),
            stdio: process.stdio(),
            exit: process.exit(),
        })
    }

    /// Waits for the exit of a process.
    ///
    /// # Errors
    /// If there is no such exec.
    pub async fn wait(&self, exec: &str) -> Result<Exit> {
        Ok(match self.process(exec)? {
            ProcessRef::Init(init) => init.wait().await,
            ProcessRef::Exec(exec) => exec.wait().await,
        })
    }

    /// The container's processes. Those that this shim started are named.
    ///
    /// # Errors
    /// If the runtime cannot list them.
    pub async fn pids(&self) -> Result<Vec<ListedProcess>> {
        let pids = self.init.processes().await?;
        if pids.is_empty() {
            return Ok(the_shim_alone());
        }
        Ok(pids.into_iter().map(|pid| self.listed(pid)).collect())
    }

    fn listed(&self, pid: i32) -> ListedProcess {
        let exec = lock(&self.execs)
            .values()
            .find(|exec| exec.inner_pid() == Some(pid))
            .map(|exec| exec.id().to_owned());
        let pid = u32::try_from(pid).unwrap_or_default();
        ListedProcess { pid, exec }
    }

    /// Signals an exec or, without one, init; or all of the container's processes.
    ///
    /// # Errors
    /// If the signal does not exist, or there is nothing left to signal.
    pub async fn kill(&self, exec: &str, signal: u32, all: bool) -> Result<()> {
        let signal = Signal::new(signal).ok_or_else(|| Error::Invalid {
            what: "signal",
            value: signal.to_string(),
            wanted: "signals are numbered 1 to 64",
        })?;
        match self.process(exec)? {
            ProcessRef::Init(init) if all => init.kill_all(signal).await?,
            ProcessRef::Init(init) => init.kill(signal).await?,
            ProcessRef::Exec(exec) => exec.kill(signal).await?,
        }
        Ok(())
    }

    /// Closes the shim's end of a process's standard input.
    ///
    /// # Errors
    /// If there is no such exec.
    pub async fn close_stdin(&self, exec: &str) -> Result<()> {
        match self.process(exec)? {
            ProcessRef::Init(init) => init.close_stdin().await,
            ProcessRef::Exec(exec) => exec.close_stdin().await,
        }
        Ok(())
    }
}

impl ProcessRef {
    fn pid(&self) -> u32 {
        pid_number(match self {
            Self::Init(init) => init.pid(),
            Self::Exec(exec) => exec.pid(),
        })
    }

    fn status(&self) -> Status {
        match self {
            Self::Init(init) => init.status(),
            Self::Exec(exec) => exec.status(),
        }
    }

    fn stdio(&self) -> StdioPaths {
        match self {
            Self::Init(init) => init.stdio(),
            Self::Exec(exec) => exec.stdio().clone(),
        }
    }

    fn exit(&self) -> Option<(u32, SystemTime)> {
        match self {
            Self::Init(init) => init.exit_status().zip(init.exited_at()),
            Self::Exec(exec) => exec.exit_status().zip(exec.exited_at()),
        }
    }
}

/// What is listed for a container without processes: one that is being created, is still to be
/// restored, or has ended. containerd takes an empty list for a leaked shim when it restarts, and
/// deletes what has not been collected yet. The process that holds such a task is the shim itself.
pub fn the_shim_alone() -> Vec<ListedProcess> {
    vec![ListedProcess {
        pid: std::process::id(),
        exec: None,
    }]
}
