//! What answers around the mailbox, also while a dump or a restore runs: State, Wait, Pids, Kill
//! and CloseIO.

use std::time::SystemTime;

use containerd_shim_protos::{
    api::{
        KillRequest, PidsResponse, ProcessInfo, StateResponse, Status as TaskStatus, WaitResponse,
    },
    protobuf::{EnumOrUnknown, Message, MessageField, MessageFull, well_known_types::any::Any},
    shim::oci::ProcessDetails,
};
use stasis_engine::Signal;
use stasis_proc::{Status, StdioPaths};

use super::{Error, Process, Result, Shared, lock, pid_number, timestamp};

impl Shared {
    /// What is known of a process, without asking the runtime.
    ///
    /// # Errors
    /// If there is no such exec.
    pub fn state(&self, exec: &str) -> Result<StateResponse> {
        let process = self.process(exec)?;
        let StdioPaths {
            stdin,
            stdout,
            stderr,
            terminal,
        } = process.stdio();
        let exit = process.exit();
        Ok(StateResponse {
            id: self.id.clone(),
            exec_id: exec.to_owned(),
            bundle: self.bundle.display().to_string(),
            pid: process.pid(),
            status: EnumOrUnknown::new(task_status(process.status())),
            stdin,
            stdout,
            stderr,
            terminal,
            exit_status: exit.map(|(status, _)| status).unwrap_or_default(),
            exited_at: exit.map(|(_, at)| timestamp(at)).into(),
            ..StateResponse::default()
        })
    }

    /// Waits for the exit of a process.
    ///
    /// # Errors
    /// If there is no such exec.
    pub async fn wait(&self, exec: &str) -> Result<WaitResponse> {
        let exit = match self.process(exec)? {
            Process::Init(init) => init.wait().await,
            Process::Exec(exec) => exec.wait().await,
        };
        Ok(WaitResponse {
            exit_status: exit.status,
            exited_at: MessageField::some(timestamp(exit.timestamp)),
            ..WaitResponse::default()
        })
    }

    /// The container's processes. Those that this shim started are named.
    ///
    /// # Errors
    /// If the runtime cannot list them.
    pub async fn pids(&self) -> Result<PidsResponse> {
        let mut pids = self.init.processes().await?;
        if pids.is_empty() {
            // A container that has ended, or is still to be restored. containerd takes an empty
            // list for a leaked shim when it restarts, and deletes what has not been collected
            // yet. The process that holds this task is the shim itself.
            pids.extend(i32::try_from(std::process::id()));
        }
        let processes = pids.into_iter().map(|pid| self.process_info(pid)).collect();
        Ok(PidsResponse {
            processes,
            ..PidsResponse::default()
        })
    }

    fn process_info(&self, pid: i32) -> ProcessInfo {
        let exec = lock(&self.execs)
            .values()
            .find(|exec| exec.inner_pid() == Some(pid))
            .map(|exec| exec.id().to_owned());
        ProcessInfo {
            pid: u32::try_from(pid).unwrap_or_default(),
            info: exec.and_then(|exec| process_details(&exec)).into(),
            ..ProcessInfo::default()
        }
    }

    /// Signals a process, or all of the container's.
    ///
    /// # Errors
    /// If the signal does not exist, or there is nothing left to signal.
    pub async fn kill(&self, request: &KillRequest) -> Result<()> {
        let signal = Signal::new(request.signal).ok_or_else(|| Error::Invalid {
            what: "signal",
            value: request.signal.to_string(),
            wanted: "signals are numbered 1 to 64",
        })?;
        match self.process(&request.exec_id)? {
            Process::Init(init) if request.all => init.kill_all(signal).await?,
            Process::Init(init) => init.kill(signal).await?,
            Process::Exec(exec) => exec.kill(signal).await?,
        }
        Ok(())
    }

    /// Closes the shim's end of a process's standard input.
    ///
    /// # Errors
    /// If there is no such exec.
    pub async fn close_stdin(&self, exec: &str) -> Result<()> {
        match self.process(exec)? {
            Process::Init(init) => init.close_stdin().await,
            Process::Exec(exec) => exec.close_stdin().await,
        }
        Ok(())
    }
}

impl Process {
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

fn task_status(status: Status) -> TaskStatus {
    match status {
        Status::Created => TaskStatus::CREATED,
        Status::Running => TaskStatus::RUNNING,
        Status::Pausing => TaskStatus::PAUSING,
        Status::Paused => TaskStatus::PAUSED,
        Status::Stopped | Status::Deleted => TaskStatus::STOPPED,
    }
}

fn process_details(exec: &str) -> Option<Any> {
    let details = ProcessDetails {
        exec_id: exec.to_owned(),
        ..ProcessDetails::default()
    };
    Some(Any {
        // containerd's typeurl writes the bare name of a message.
        type_url: ProcessDetails::descriptor().full_name().to_owned(),
        value: details.write_to_bytes().ok()?,
        ..Any::default()
    })
}
