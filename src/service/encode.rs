//! Answers of the task service, as messages.

use containerd_shim_protos::{
    api::{
        ConnectResponse, CreateTaskResponse, DeleteResponse, PidsResponse, ProcessInfo,
        StartResponse, StateResponse, Status as TaskStatus, WaitResponse,
    },
    protobuf::{EnumOrUnknown, Message, well_known_types::any::Any},
    shim::oci::ProcessDetails,
};
use stasis_proc::{Exit, Status};

use crate::container::{ListedProcess, ProcessEnd, TaskState};

pub(super) fn create(pid: u32) -> CreateTaskResponse {
    CreateTaskResponse {
        pid,
        ..CreateTaskResponse::default()
    }
}

pub(super) fn start(pid: u32) -> StartResponse {
    StartResponse {
        pid,
        ..StartResponse::default()
    }
}

pub(super) fn state(state: TaskState) -> StateResponse {
    StateResponse {
        id: state.id,
        exec_id: state.exec,
        bundle: state.bundle.display().to_string(),
        pid: state.pid,
        status: EnumOrUnknown::new(status(state.status)),
        stdin: state.stdio.stdin,
        stdout: state.stdio.stdout,
        stderr: state.stdio.stderr,
        terminal: state.stdio.terminal,
        exit_status: state.exit.map(|(status, _)| status).unwrap_or_default(),
        exited_at: state.exit.map(|(_, at)| at.into()).into(),
        ..StateResponse::default()
    }
}

/// The state of a container whose Create has not ended: the API has no word for it, and this one
/// makes no promise of a process.
pub(super) fn being_created(id: String) -> StateResponse {
    StateResponse {
        id,
        status: EnumOrUnknown::new(TaskStatus::CREATED),
        ..StateResponse::default()
    }
}

fn status(status: Status) -> TaskStatus {
    match status {
        Status::Created => TaskStatus::CREATED,
        Status::Running => TaskStatus::RUNNING,
        Status::Pausing => TaskStatus::PAUSING,
        Status::Paused => TaskStatus::PAUSED,
        Status::Stopped | Status::Deleted => TaskStatus::STOPPED,
    }
}

pub(super) fn wait(exit: &Exit) -> WaitResponse {
    WaitResponse {
        exit_status: exit.status,
        exited_at: Some(exit.timestamp.into()).into(),
        ..WaitResponse::default()
    }
}

pub(super) fn delete(ended: &ProcessEnd) -> DeleteResponse {
    DeleteResponse {
        pid: ended.pid,
        exit_status: ended.exit.status,
        exited_at: Some(ended.exit.timestamp.into()).into(),
        ..DeleteResponse::default()
    }
}

pub(super) fn pids(processes: Vec<ListedProcess>) -> PidsResponse {
    PidsResponse {
        processes: processes.into_iter().map(process_info).collect(),
        ..PidsResponse::default()
    }
}

fn process_info(process: ListedProcess) -> ProcessInfo {
    ProcessInfo {
        pid: process.pid,
        info: process.exec.and_then(process_details).into(),
        ..ProcessInfo::default()
    }
}

fn process_details(exec_id: String) -> Option<Any> {
    let details = ProcessDetails {
        exec_id,
        ..ProcessDetails::default()
    };
    Some(Any {
        // containerd's typeurl writes the bare name of a message.
        type_url: "containerd.runc.v1.ProcessDetails".to_owned(),
        value: details.write_to_bytes().ok()?,
        ..Any::default()
    })
}

pub(super) fn connect(task_pid: u32) -> ConnectResponse {
    ConnectResponse {
        shim_pid: std::process::id(),
        task_pid,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..ConnectResponse::default()
    }
}
